/* SPDX-License-Identifier: Apache-2.0 */
/* A Zephyr board with a shell: echo, a coloured prompt, logs between the lines, and lines of at most 255 characters, of
 * which what comes after is not taken.
 *
 *     hwinfo devid   posix uname -i   app version   kernel version   kernel reboot
 *     nrf_cloud_cred keygen|csr|delete|pubkey [tag]        zephyr_key.c
 *     cred buf|add|del|get|list                            zephyr_cred.c
 *
 * The noisy one is an older build: its log does not wait for the end of a line, it can't load the buffer in one go, the
 * buffer is smaller, and it has no `app version`. */
#include <stdarg.h>
#include <string.h>

#include "../core/server.h"
#include "../core/port.h"
#include "console.h"
#include "personas.h"
#include "vault.h"
#include "zephyr.h"

enum { LINE = 255, NOISE_EVERY = 101, LOAD_ROOM = 4096, OLD_ROOM = 2560 };
#define LOG_START "\x1b[0m[00:00:0"

static struct {
    struct console console;
    char id[2 * 64 + 1];
    bool is_noisy;
    unsigned until_noise;
    unsigned logs;
} shell;

/* --- printing --- */

void zephyr_log(const char *text)
{
    shell.logs += 1;
    const char digits[] = {(char)('0' + shell.logs / 10 % 10), '.', (char)('0' + shell.logs % 10)};
    console_print(LOG_START);
    console_print_sized(digits, sizeof digits);
    console_print("15,234] <inf> app: ");
    console_print_line(text);
}

void zephyr_print_sized(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (shell.is_noisy && --shell.until_noise == 0) {
            shell.until_noise = NOISE_EVERY;
            zephyr_log("sensor read: OK 0x2f");
        }
        console_print_sized(text + i, 1);
    }
}

void zephyr_print(const char *text)
{
    zephyr_print_sized(text, strlen(text));
}

void zephyr_print_number(uint32_t number)
{
    char digits[10];
    size_t at = sizeof digits;
    do {
        at -= 1;
        digits[at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    zephyr_print_sized(digits + at, sizeof digits - at);
}

void zephyr_print_line(const char *first, ...)
{
    va_list parts;
    va_start(parts, first);
    for (const char *part = first; part != NULL; part = va_arg(parts, const char *)) {
        zephyr_print(part);
    }
    va_end(parts);
    zephyr_print("\r\n");
}

/* --- words --- */

bool zephyr_read_tag(const char *text, uint32_t *tag)
{
    uint64_t value = 0;
    if (*text == '\0' || strlen(text) > 10 || strspn(text, "0123456789") != strlen(text)) {
        zephyr_print_line(text, " is not a valid sectag.", (char *)NULL);
        return false;
    }
    for (; *text != '\0'; text++) {
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *tag = (uint32_t)value;
    return value <= INT32_MAX;
}

/* Split at blanks outside of double quotes. Returns the number of words. */
static size_t split(char *text, char *words[ZEPHYR_ARGUMENTS])
{
    size_t count = 0;
    while (count < ZEPHYR_ARGUMENTS) {
        text += strspn(text, " ");
        if (*text == '\0') {
            break;
        }
        bool is_quoted = *text == '"';
        text += is_quoted;
        words[count] = text;
        count += 1;
        text += strcspn(text, is_quoted ? "\"" : " ");
        if (*text != '\0') {
            *text = '\0';
            text += 1;
        }
    }
    return count;
}

const char *zephyr_device_id(void)
{
    return shell.id;
}

/* --- commands that every shell has --- */

static void print_device_id(void)
{
    zephyr_print("Length: ");
    zephyr_print_number((uint32_t)strlen(shell.id) / 2);
    zephyr_print("\r\nID: 0x");
    zephyr_print_line(shell.id, (char *)NULL);
}

static void line(char *text, size_t size)
{
    (void)size;
    char *words[ZEPHYR_ARGUMENTS];
    size_t count = split(text, words);
    if (count == 0) {
        return;
    }
    const char *second = count > 1 ? words[1] : "";
    if (strcmp(words[0], "cred") == 0) {
        zephyr_cred(count, words);
    } else if (strcmp(words[0], "nrf_cloud_cred") == 0) {
        zephyr_key(count, words);
    } else if (strcmp(words[0], "hwinfo") == 0 && strcmp(second, "devid") == 0) {
        print_device_id();
    } else if (strcmp(words[0], "posix") == 0 && strcmp(second, "uname") == 0) {
        zephyr_print_line(port_model(), (char *)NULL);
    } else if (strcmp(words[0], "app") == 0 && strcmp(second, "version") == 0 && !shell.is_noisy) {
        zephyr_print_line("1.4.2", (char *)NULL);
    } else if (strcmp(words[0], "kernel") == 0 && strcmp(second, "version") == 0) {
        zephyr_print_line("Zephyr version 3.7.99", (char *)NULL);
    } else if (strcmp(words[0], "kernel") == 0 && strcmp(second, "reboot") == 0) {
        server_reset_later();
    } else {
        zephyr_print_line(words[0], ": command not found", (char *)NULL);
    }
}

/* --- the two of them --- */

/* A hardware id such as E8F1-7C0A is the bytes that it names; any other one is its own characters. */
static void make_id(const char *from)
{
    static const char digits[] = "0123456789abcdef";
    size_t size = 0;
    bool is_hex = true;
    for (const char *at = from; *at != '\0' && is_hex; at++) {
        char small = (char)(*at >= 'A' && *at <= 'F' ? *at - 'A' + 'a' : *at);
        is_hex = *at == '-' || strchr(digits, small) != NULL;
        if (is_hex && *at != '-') {
            shell.id[size++] = small;
        }
    }
    if (!is_hex || size == 0 || size % 2 != 0) {
        size = 0;
        for (const char *at = from; *at != '\0'; at++) {
            shell.id[size++] = digits[(uint8_t)*at >> 4];
            shell.id[size++] = digits[(uint8_t)*at & 15];
        }
    }
    shell.id[size] = '\0';
}

/* Up to the end of a line at a time: the command in it may want what comes next for itself. */
static size_t size_of_line(const uint8_t *bytes, size_t size)
{
    size_t count = 0;
    while (count < size && bytes[count] != ZEPHYR_CTRL_C) {
        count += 1;
        if (bytes[count - 1] == '\r' || bytes[count - 1] == '\n') {
            break;
        }
    }
    return count;
}

static void receive(const uint8_t *bytes, size_t size)
{
    while (size > 0 && !server_resets()) {
        size_t taken = 1;
        if (zephyr_cred_is_loading()) {
            zephyr_cred_load(*bytes);
        } else if (*bytes != ZEPHYR_CTRL_C) { /* of a line that was begun, the rest decides */
            taken = size_of_line(bytes, size);
            console_receive(bytes, taken);
        }
        bytes += taken;
        size -= taken;
    }
    port_uart_flush();
}

static bool boot(bool is_noisy)
{
    static const struct console console = {
        .line = line, .prompt = "\x1b[1;32muart:~$ \x1b[m", .limit = LINE, .echo = true};
    shell.is_noisy = is_noisy;
    shell.until_noise = NOISE_EVERY;
    shell.logs = 0;
    make_id(port_hardware_id());
    zephyr_cred_boot(is_noisy ? OLD_ROOM : LOAD_ROOM, !is_noisy);
    if (!vault_open()) {
        return false;
    }
    port_log("*** Booting Zephyr OS build v3.7.99 ***");
    shell.console = console;
    console_open(&shell.console);
    return true;
}

static bool boot_calm(void)
{
    return boot(false);
}

static bool boot_noisy(void)
{
    return boot(true);
}

const struct persona persona_zephyr_shell = {"zephyr-shell", boot_calm, receive};
const struct persona persona_zephyr_shell_noisy = {"zephyr-shell-noisy", boot_noisy, receive};
