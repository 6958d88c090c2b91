/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind the '=' of an AT command (ITU-T V.250 5.4.2): numbers and quoted texts, commas between them. */
#ifndef AT_ARGUMENTS_H
#define AT_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AT_ARGUMENTS = 6 };

struct at_argument {
    const char *text; /* `size` characters, quotes left out */
    size_t size;
    bool quoted;
};

/* Split at the commas outside of quotes. False: too many, or a quote is left open. */
bool at_split(const char *text, struct at_argument arguments[AT_ARGUMENTS], size_t *count);
bool at_number(const struct at_argument *from, uint32_t most, uint32_t *value);
/* Read `size` hexadecimal digits, an even number. */
bool at_hex(const char *text, size_t size, uint8_t *to);

#endif
