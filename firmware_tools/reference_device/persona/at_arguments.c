/* SPDX-License-Identifier: Apache-2.0 */
#include "at_arguments.h"

#include <string.h>

bool at_split(const char *text, struct at_argument arguments[AT_ARGUMENTS], size_t *count)
{
    *count = 0;
    for (;;) {
        if (*count == AT_ARGUMENTS) {
            return false;
        }
        struct at_argument *now = &arguments[*count];
        now->quoted = *text == '"';
        text += now->quoted ? 1 : 0;
        const char *end = strchr(text, now->quoted ? '"' : ',');
        if (now->quoted && (end == NULL || (end[1] != '\0' && end[1] != ','))) {
            return false;
        }
        now->text = text;
        now->size = end == NULL ? strlen(text) : (size_t)(end - text);
        *count += 1;
        if (end == NULL || (now->quoted && end[1] == '\0')) {
            return true;
        }
        text = end + (now->quoted ? 2 : 1);
    }
}

bool at_number(const struct at_argument *from, uint32_t most, uint32_t *value)
{
    uint64_t sum = 0;
    if (from->quoted || from->size == 0 || from->size > 10) {
        return false;
    }
    for (size_t i = 0; i < from->size; i++) {
        if (from->text[i] < '0' || from->text[i] > '9') {
            return false;
        }
        sum = 10 * sum + (uint64_t)(from->text[i] - '0');
    }
    *value = (uint32_t)sum;
    return sum <= most;
}

static int nibble(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool at_hex(const char *text, size_t size, uint8_t *to)
{
    for (size_t i = 0; i < size; i++) {
        int digit = nibble(text[i]);
        if (digit < 0) {
            return false;
        }
        to[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : to[i / 2] | digit);
    }
    return true;
}
