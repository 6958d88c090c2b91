/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const uint8_t *bytes, size_t size, char *to)
{
    for (size_t i = 0; i < size; i += 3) {
        size_t count = size - i < 3 ? size - i : 3;
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= count > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= count > 2 ? (uint32_t)bytes[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            *to++ = k <= count ? letters[group >> (18 - 6 * k) & 63] : '=';
        }
    }
}

bool base64_decode(const char *text, size_t length, uint8_t *to, size_t *size)
{
    size_t pads = 0;
    while (pads < 2 && pads < length && text[length - 1 - pads] == '=') {
        pads += 1;
    }
    if (length % 4 != 0) {
        return false;
    }
    uint32_t group = 0;
    size_t written = 0;
    for (size_t i = 0; i < length; i++) {
        const char *found = i < length - pads ? memchr(letters, text[i], sizeof letters - 1) : letters;
        if (found == NULL) {
            return false;
        }
        group = group << 6 | (uint32_t)(found - letters);
        if (i % 4 == 3) {
            size_t count = i == length - 1 ? 3 - pads : 3;
            for (size_t k = 0; k < count; k++) {
                to[written++] = (uint8_t)(group >> (16 - 8 * k));
            }
            group = 0;
        }
    }
    *size = written;
    return true;
}
