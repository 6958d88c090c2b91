/* A PKCS#11 module that stands before another one (WATCHED_MODULE): it writes each login into a file (WATCHED_LOG), and
 * does the harm that WATCHED_HARM names at the time of the call:
 *
 *   signature   flip a bit of each signature, as faulty tokens do
 *   slot        the first slot answers CKR_GENERAL_ERROR when it is asked for its token
 *   final-try   each token says that one wrong PIN is left
 *   locked      each token says that its PIN is locked
 *   pin-pad     each token has a PIN pad, on which WATCHED_PIN is typed
 *   extractable each key says that it can leave the token
 *   session     the next signature finds its session gone (CKR_SESSION_HANDLE_INVALID)
 *
 * Types and the order of the function list are those of PKCS#11 2.40; nothing is needed from its headers.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long number;

struct functions {
    unsigned char version[2];
    void *at[68];
};

struct token_info {
    unsigned char names[96];
    number flags;
};

struct attribute {
    number type;
    void *value;
    number size;
};

enum { GET_SLOT_LIST = 4, GET_TOKEN_INFO = 6, LOGIN = 18, GET_ATTRIBUTE_VALUE = 24, SIGN = 43 };
enum { EXTRACTABLE = 0x162 };
enum { GENERAL_ERROR = 5, SESSION_HANDLE_INVALID = 0xb3, PIN_PAD = 0x100, FINAL_TRY = 0x20000, LOCKED = 0x40000 };

static struct functions *inner;
static struct functions outer;

static int harm(const char *name)
{
    const char *wanted = getenv("WATCHED_HARM");
    return wanted && strcmp(wanted, name) == 0;
}

static number login(number session, number user, unsigned char *pin, number length)
{
    FILE *log = fopen(getenv("WATCHED_LOG"), "a");
    if (log) {
        fprintf(log, "login\n");
        fclose(log);
    }
    if (!pin && harm("pin-pad")) {
        pin = (unsigned char *)getenv("WATCHED_PIN");
        length = strlen((char *)pin);
    }
    return ((number(*)(number, number, unsigned char *, number))inner->at[LOGIN])(session, user, pin, length);
}

static number sign(number session, unsigned char *data, number size, unsigned char *out, number *out_size)
{
    if (harm("session"))
        return SESSION_HANDLE_INVALID;
    number answer = ((number(*)(number, unsigned char *, number, unsigned char *, number *))inner->at[SIGN])(
        session, data, size, out, out_size);
    if (answer == 0 && out && harm("signature"))
        out[*out_size / 2] ^= 1;
    return answer;
}

static number get_attribute_value(number session, number object, struct attribute *wanted, number count)
{
    number answer = ((number(*)(number, number, struct attribute *, number))inner->at[GET_ATTRIBUTE_VALUE])(
        session, object, wanted, count);
    for (number i = 0; answer == 0 && i < count && harm("extractable"); i++)
        if (wanted[i].type == EXTRACTABLE && wanted[i].value)
            *(unsigned char *)wanted[i].value = 1;
    return answer;
}

static number get_token_info(number slot, struct token_info *info)
{
    number slots[64];
    number count = 64;
    if (harm("slot")) {
        ((number(*)(unsigned char, number *, number *))inner->at[GET_SLOT_LIST])(1, slots, &count);
        if (count && slots[0] == slot)
            return GENERAL_ERROR;
    }
    number answer = ((number(*)(number, struct token_info *))inner->at[GET_TOKEN_INFO])(slot, info);
    if (answer == 0 && harm("final-try"))
        info->flags |= FINAL_TRY;
    if (answer == 0 && harm("pin-pad"))
        info->flags |= PIN_PAD;
    if (answer == 0 && harm("locked"))
        info->flags |= LOCKED;
    return answer;
}

number C_GetFunctionList(struct functions **list)
{
    if (!inner) {
        void *library = dlopen(getenv("WATCHED_MODULE"), RTLD_NOW | RTLD_LOCAL);
        number (*get)(struct functions **) = library ? (number(*)(struct functions **))dlsym(library, "C_GetFunctionList") : 0;
        if (!get || get(&inner))
            return GENERAL_ERROR;
        outer = *inner;
        outer.at[LOGIN] = login;
        outer.at[SIGN] = sign;
        outer.at[GET_ATTRIBUTE_VALUE] = get_attribute_value;
        outer.at[GET_TOKEN_INFO] = get_token_info;
    }
    *list = &outer;
    return 0;
}
