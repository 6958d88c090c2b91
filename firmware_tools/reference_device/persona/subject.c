/* SPDX-License-Identifier: Apache-2.0 */
#include "subject.h"

#include <string.h>

bool subject_read(const char *text, size_t size, struct crypto_attribute to[SUBJECT_ATTRIBUTES], size_t *count)
{
    /* In the order of enum crypto_attribute_type. */
    static const char *const names[] = {"CN=", "O=", "OU=", "C=", "L=", "ST=", "serialNumber="};
    const char *at = text;
    const char *end = text + size;
    *count = 0;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma == NULL ? end : comma;
        size_t type = 0;
        while (type < sizeof names / sizeof names[0] && strncmp(at, names[type], strlen(names[type])) != 0) {
            type += 1;
        }
        if (type == sizeof names / sizeof names[0] || *count == SUBJECT_ATTRIBUTES ||
            at + strlen(names[type]) >= stop) {
            return false;
        }
        at += strlen(names[type]);
        to[*count].type = (enum crypto_attribute_type)type;
        to[*count].value = at;
        to[*count].size = (size_t)(stop - at);
        *count += 1;
        at = comma == NULL ? end : comma + 1;
    }
    return *count > 0;
}
