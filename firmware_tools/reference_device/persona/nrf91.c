/* SPDX-License-Identifier: Apache-2.0 */
/* A Nordic nRF91 modem as a factory meets it: AT commands for its identity, its keys and its credentials.
 *
 *     AT  ATE0  ATE1  AT+CMEE=n  AT+CMEE?  AT+CFUN=n  AT+CFUN?
 *     AT+CGMM  AT+CGMR  AT%SHORTSWVER  AT+CGSN  AT+CGSN=1  AT%DEVICEUUID  AT%ATTESTTOKEN[="challenge"]
 *     AT%KEYGEN=tag,type[,content[,attributes[,usage]]]      types 2 (client key) and 8 (endorsement key)
 *     AT%CMNG=0,tag,type,"content"   AT%CMNG=1[,tag[,type]]   AT%CMNG=3,tag,type
 *
 * It boots with its radio on, as under an application that connects: keys and credentials change after AT+CFUN=4 or 0
 * only. Errors are numbers (+CME ERROR: 518) after AT+CMEE=1, and plain ERROR before. Digests in the list are over the
 * text as it was written, and for a key that was made here over its SubjectPublicKeyInfo. */
#include <string.h>

#include "../core/port.h"
#include "at_arguments.h"
#include "console.h"
#include "personas.h"
#include "nrf91.h"
#include "statement.h"

enum { SHELL_LINE = 4096 };
enum { OFFLINE = 4, POWER_OFF = 0, NORMAL = 1 };

static struct {
    struct console console;
    struct nrf91_identity id;
    const char *firmware;
    const char *version; /* the short form */
    bool is_old;
    bool numbers; /* AT+CMEE=1 */
    uint32_t function;
} modem;

/* --- commands --- */

static bool is_active(void)
{
    return modem.function != OFFLINE && modem.function != POWER_OFF;
}

static enum nrf91_outcome say(const char *text)
{
    console_print_line(text);
    return NRF91_DONE;
}

static enum nrf91_outcome say_quoted(const char *name, const char *text)
{
    console_print(name);
    console_print(": \"");
    console_print(text);
    return say("\"");
}

static enum nrf91_outcome set_number(const char *value, uint32_t most, uint32_t *to)
{
    const struct at_argument only = {value, strlen(value), false};
    uint32_t got;
    if (!at_number(&only, most, &got)) {
        return NRF91_FAILED;
    }
    *to = got;
    return NRF91_DONE;
}

static enum nrf91_outcome set_function(const char *value)
{
    return set_number(value, 44, &modem.function);
}

static enum nrf91_outcome set_errors(const char *value)
{
    uint32_t mode = modem.numbers ? 1 : 0;
    enum nrf91_outcome outcome = set_number(value, 1, &mode);
    modem.numbers = mode == 1;
    return outcome;
}

static enum nrf91_outcome imei_quoted(const char *value)
{
    return strcmp(value, "1") == 0 ? say_quoted("+CGSN", modem.id.imei) : NRF91_FAILED;
}

static enum nrf91_outcome attest(const char *value)
{
    uint8_t nonce[STATEMENT_NONCE];
    struct at_argument only[AT_ARGUMENTS];
    size_t count;
    if (*value == '\0') {
        if (!port_entropy(nonce, sizeof nonce)) {
            return NRF91_FAILED;
        }
    } else if (!at_split(value, only, &count) || count != 1 || !only[0].quoted ||
               only[0].size != 2 * sizeof nonce ||
               !at_hex(only[0].text, only[0].size, nonce)) {
        return NRF91_BAD_PARAMETERS;
    }
    console_print("%ATTESTTOKEN: \"");
    bool done = statement_of_identity(&modem.id.who, nonce);
    console_print("\"\r\n");
    return done ? NRF91_DONE : NRF91_FAILED;
}

static enum nrf91_outcome keygen(const char *value)
{
    return nrf91_keygen(&modem.id, value, is_active(), modem.is_old);
}

static enum nrf91_outcome manage(const char *value)
{
    return nrf91_manage(value, is_active());
}

static enum nrf91_outcome answer_fixed(const char *command)
{
    const struct {
        const char *command;
        const char *answer;
    } fixed[] = {
        {"+CGMM", port_model()},      {"+CGMR", modem.firmware},    {"+CGSN", modem.id.imei},
        {"+CGMI", "Nordic Semiconductor ASA"},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (strcmp(command, fixed[i].command) == 0) {
            return say(fixed[i].answer);
        }
    }
    if (strcmp(command, "%SHORTSWVER") == 0) {
        console_print("%SHORTSWVER: ");
        return say(modem.version);
    }
    if (strcmp(command, "%DEVICEUUID") == 0) {
        console_print("%DEVICEUUID: ");
        return say(modem.id.uuid);
    }
    if (strcmp(command, "+CMEE?") == 0) {
        return say(modem.numbers ? "+CMEE: 1" : "+CMEE: 0");
    }
    if (strcmp(command, "+CFUN?") == 0) {
        console_print("+CFUN: ");
        console_print_number(modem.function);
        return say("");
    }
    if (strcmp(command, "E0") == 0 || strcmp(command, "E1") == 0) {
        modem.console.echo = modem.console.prompt != NULL || command[1] == '1';
        return NRF91_DONE;
    }
    return *command == '\0' ? NRF91_DONE : NRF91_FAILED;
}

static enum nrf91_outcome perform(const char *command)
{
    static const struct {
        const char *prefix;
        enum nrf91_outcome (*run)(const char *value);
    } known[] = {
        {"+CFUN=", set_function}, {"+CMEE=", set_errors},       {"+CGSN=", imei_quoted},   {"%KEYGEN=", keygen},
        {"%CMNG=", manage},       {"%ATTESTTOKEN=", attest},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(command, known[i].prefix, strlen(known[i].prefix)) == 0) {
            return known[i].run(command + strlen(known[i].prefix));
        }
    }
    return strcmp(command, "%ATTESTTOKEN") == 0 ? attest("") : answer_fixed(command);
}

static void answer(enum nrf91_outcome outcome)
{
    if (outcome == NRF91_DONE) {
        console_print_line("OK");
    } else if (outcome == NRF91_FAILED || !modem.numbers) {
        console_print_line("ERROR");
    } else {
        console_print("+CME ERROR: ");
        console_print_number(outcome);
        console_print_line("");
    }
}

/* Command names in any case, up to the first '=' or quote; what follows is content. */
static void upper(char *text)
{
    for (; *text != '\0' && *text != '=' && *text != '"'; text++) {
        *text = (char)(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
    }
}

static void at_line(char *text, size_t size)
{
    if (size == 0) {
        return;
    }
    upper(text);
    answer(strncmp(text, "AT", 2) == 0 ? perform(text + 2) : NRF91_FAILED);
}

static void at_too_long(void)
{
    console_print_line("ERROR");
}

/* --- behind a Zephyr shell: at 'AT...', with \n for the line ends of a PEM --- */

static char unescaped[CONSOLE_LINE + 1];

/* Take the quotes of the shell away and turn \n into CR LF; false: it does not fit, or a quote is left open. */
static bool unescape(const char *text)
{
    size_t size = 0;
    char quote = *text == '\'' || (*text == '"') ? *text : '\0';
    text += quote != '\0' ? 1 : 0;
    for (; *text != '\0' && *text != quote; text++) {
        if (size + 2 > CONSOLE_LINE) {
            return false;
        }
        if (text[0] == '\\' && text[1] == 'n') {
            unescaped[size++] = '\r';
            unescaped[size++] = '\n';
            text += 1;
        } else {
            unescaped[size++] = *text;
        }
    }
    unescaped[size] = '\0';
    return quote == '\0' || *text == quote;
}

static void shell_line(char *text, size_t size)
{
    if (size == 0) {
        return;
    }
    if (strncmp(text, "at ", 3) == 0 && unescape(text + 3)) {
        at_line(unescaped, strlen(unescaped));
        return;
    }
    size_t word = strcspn(text, " ");
    console_print_sized(text, word);
    console_print_line(": command not found");
}

static void shell_too_long(void)
{
    console_print_line("");
}

/* --- the three of them --- */

static bool boot(const char *version, const char *firmware, bool is_old, const struct console *console)
{
    modem.version = version;
    modem.firmware = firmware;
    modem.is_old = is_old;
    modem.numbers = false;
    modem.function = NORMAL;
    if (!vault_open() || !nrf91_identity(&modem.id, firmware)) {
        return false;
    }
    port_log("*** Booting nRF Connect SDK v2.6.1 ***");
    modem.console = *console;
    console_open(&modem.console);
    return true;
}

static bool boot_at(void)
{
    static const struct console at = {
        .line = at_line, .too_long = at_too_long, .limit = CONSOLE_LINE, .quotes = true};
    return boot("nrf91x1_2.0.2", "mfw_nrf91x1_2.0.2", false, &at);
}

static bool boot_old(void)
{
    static const struct console at = {
        .line = at_line, .too_long = at_too_long, .limit = CONSOLE_LINE, .quotes = true};
    return boot("nrf9160_1.3.5", "mfw_nrf9160_1.3.5", true, &at);
}

static bool boot_shell(void)
{
    static const struct console shell = {.line = shell_line,
                                         .too_long = shell_too_long,
                                         .limit = SHELL_LINE,
                                         .prompt = "\x1b[1;32mmosh:~$ \x1b[m",
                                         .echo = true};
    return boot("nrf91x1_2.0.2", "mfw_nrf91x1_2.0.2", false, &shell);
}

const struct persona persona_nrf91 = {"nrf91", boot_at, console_receive};
const struct persona persona_nrf91_shell = {"nrf91-shell", boot_shell, console_receive};
const struct persona persona_nrf91_old = {"nrf91-old", boot_old, console_receive};
