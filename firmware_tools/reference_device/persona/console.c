/* SPDX-License-Identifier: Apache-2.0 */
#include "console.h"

#include <string.h>

#include "../core/server.h"
#include "../core/port.h"

static struct {
    struct console *console;
    char text[CONSOLE_LINE + 1];
    size_t size;
    bool overflow;
    bool in_quotes;
    bool after_cr; /* a line feed that follows is the same end of line */
} now;

static void prompt(void)
{
    if (now.console->prompt != NULL) {
        console_print(now.console->prompt);
    }
}

void console_open(struct console *console)
{
    now.console = console;
    now.size = 0;
    now.overflow = now.in_quotes = now.after_cr = false;
    prompt();
    port_uart_flush();
}

static void end_of_line(void)
{
    if (now.console->echo) {
        console_print("\r\n");
    }
    now.text[now.size] = '\0';
    if (now.overflow && now.console->too_long != NULL) {
        now.console->too_long();
    } else {
        now.console->line(now.text, now.size);
    }
    now.size = 0;
    now.overflow = now.in_quotes = false;
    prompt();
}

static void take(char c)
{
    bool is_end = c == '\r' || c == '\n' || c == '\0';
    bool is_second = c == '\n' && now.after_cr;
    now.after_cr = c == '\r';
    if (is_end && !(now.console->quotes && now.in_quotes)) {
        if (!is_second) {
            end_of_line();
        }
        return;
    }
    if (now.console->echo) {
        console_print_sized(&c, 1);
    }
    now.in_quotes ^= c == '"';
    if (now.size == now.console->limit) {
        now.overflow = true;
        return;
    }
    now.text[now.size] = c;
    now.size += 1;
}

void console_receive(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size && !server_resets(); i++) {
        take((char)bytes[i]);
    }
    port_uart_flush();
}

void console_print_sized(const void *text, size_t size)
{
    port_uart_write(text, size);
}

void console_print(const char *text)
{
    console_print_sized(text, strlen(text));
}

void console_print_line(const char *text)
{
    console_print(text);
    console_print("\r\n");
}

void console_print_number(uint32_t number)
{
    char digits[10];
    size_t at = sizeof digits;
    do {
        at -= 1;
        digits[at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    console_print_sized(digits + at, sizeof digits - at);
}

void console_print_hex(const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < size; i++) {
        const char pair[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        console_print_sized(pair, sizeof pair);
    }
}

void console_print_base64url(const uint8_t *bytes, size_t size)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < size; i += 3) {
        size_t count = size - i < 3 ? size - i : 3;
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= count > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= count > 2 ? (uint32_t)bytes[i + 2] : 0;
        char four[4];
        for (size_t k = 0; k < 4; k++) {
            four[k] = letters[group >> (18 - 6 * k) & 63];
        }
        console_print_sized(four, count + 1);
    }
}
