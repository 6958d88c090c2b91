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
 *   sticky      from the signature number WATCHED_AT on, each answers CKR_GENERAL_ERROR until the module is initialised
 *               again
 *   gone        the same; with a WATCHED_AT of 0 there is no token either
 *   die         the process ends at the signature number WATCHED_AT, before it is made
 *   hang        the signature number WATCHED_AT does not come back before WATCHED_RELEASE is there
 *   idle        a session that was not used for WATCHED_IDLE_MS is dropped, until the module is initialised again; asking
 *               for a random number is using it, asking about the session is not
 *
 * Signatures are counted from C_Initialize on, and written into the log too, as are C_Initialize and C_Finalize.
 *
 * Types and the order of the function list are those of PKCS#11 2.40; nothing is needed from its headers.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

enum {
    INITIALIZE = 0,
    FINALIZE = 1,
    GET_SLOT_LIST = 4,
    GET_TOKEN_INFO = 6,
    LOGIN = 18,
    GET_ATTRIBUTE_VALUE = 24,
    FIND_OBJECTS_INIT = 26,
    SIGN_INIT = 42,
    SIGN = 43,
    GENERATE_RANDOM = 64
};
enum { EXTRACTABLE = 0x162 };
enum { GENERAL_ERROR = 5, TOKEN_NOT_PRESENT = 0xe0, SESSION_HANDLE_INVALID = 0xb3, PIN_PAD = 0x100, FINAL_TRY = 0x20000, LOCKED = 0x40000 };

static struct functions *inner;
static struct functions outer;

static int harm(const char *name)
{
    const char *wanted = getenv("WATCHED_HARM");
    return wanted && strcmp(wanted, name) == 0;
}

static long asked;      /* signatures since C_Initialize */
static int sick;        /* until C_Finalize */
static double last_use; /* of a session, in milliseconds; 0: never */

static void note(const char *what)
{
    FILE *log = fopen(getenv("WATCHED_LOG"), "a");
    if (log) {
        fprintf(log, "%s\n", what);
        fclose(log);
    }
}

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static long setting(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

/* Whether the session is still there; using it keeps it. */
static int dropped(void)
{
    double now = milliseconds();
    if (harm("idle") && last_use && now - last_use > setting("WATCHED_IDLE_MS"))
        sick = 1;
    last_use = now;
    return sick && harm("idle");
}

static number initialize(void *arguments)
{
    note("initialize");
    asked = sick = last_use = 0;
    return ((number(*)(void *))inner->at[INITIALIZE])(arguments);
}

static number finalize(void *reserved)
{
    note("finalize");
    return ((number(*)(void *))inner->at[FINALIZE])(reserved);
}

static number generate_random(number session, unsigned char *out, number size)
{
    if (dropped())
        return SESSION_HANDLE_INVALID;
    note("random");
    return ((number(*)(number, unsigned char *, number))inner->at[GENERATE_RANDOM])(session, out, size);
}

static number find_objects_init(number session, void *template, number count)
{
    if (dropped())
        return SESSION_HANDLE_INVALID;
    return ((number(*)(number, void *, number))inner->at[FIND_OBJECTS_INIT])(session, template, count);
}

static number sign_init(number session, void *mechanism, number key)
{
    if (dropped())
        return SESSION_HANDLE_INVALID;
    return ((number(*)(number, void *, number))inner->at[SIGN_INIT])(session, mechanism, key);
}

static number login(number session, number user, unsigned char *pin, number length)
{
    note("login");
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
    if (out) {
        asked++;
        note("sign");
        if (asked == setting("WATCHED_AT") && harm("die"))
            _exit(9);
        if (asked == setting("WATCHED_AT") && harm("hang"))
            while (access(getenv("WATCHED_RELEASE"), F_OK))
                usleep(5000);
        if (asked >= setting("WATCHED_AT") && (harm("sticky") || harm("gone")))
            sick = 1;
    }
    if (sick && (harm("sticky") || harm("gone")))
        return GENERAL_ERROR;
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
    if (harm("gone") && setting("WATCHED_AT") == 0)
        return TOKEN_NOT_PRESENT;
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
        outer.at[INITIALIZE] = initialize;
        outer.at[FINALIZE] = finalize;
        outer.at[GENERATE_RANDOM] = generate_random;
        outer.at[FIND_OBJECTS_INIT] = find_objects_init;
        outer.at[SIGN_INIT] = sign_init;
        outer.at[LOGIN] = login;
        outer.at[SIGN] = sign;
        outer.at[GET_ATTRIBUTE_VALUE] = get_attribute_value;
        outer.at[GET_TOKEN_INFO] = get_token_info;
    }
    *list = &outer;
    return 0;
}
