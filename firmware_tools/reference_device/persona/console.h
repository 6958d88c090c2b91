/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of text on the console UART: what AT hosts and shells have in common. There is one console. */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONSOLE_LINE = 8192 }; /* characters of a line, its end left out */

struct console {
    /* Takes a line: `size` characters and a terminating zero; the text may be changed. Empty lines count. */
    void (*line)(char *text, size_t size);
    /* Said in place of that when the line was longer than `limit`. NULL: the line is taken, cut off at `limit`. */
    void (*too_long)(void);
    const char *prompt; /* NULL: none */
    size_t limit;       /* at most CONSOLE_LINE */
    bool echo;          /* characters come back as they are typed */
    bool quotes;        /* line ends between double quotes belong to the line */
};

/* Begin with an empty line. `console` stays in use, and its fields may change between two lines. */
void console_open(struct console *console);
void console_receive(const uint8_t *bytes, size_t size);

void console_print(const char *text);
void console_print_sized(const void *text, size_t size);
/* Text, CR, LF. */
void console_print_line(const char *text);
void console_print_number(uint32_t number);
/* Upper case. */
void console_print_hex(const uint8_t *bytes, size_t size);
/* RFC 4648 5, without padding. */
void console_print_base64url(const uint8_t *bytes, size_t size);

#endif
