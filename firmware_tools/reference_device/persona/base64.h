/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 with padding (RFC 4648 4), as shells print binary things. */
#ifndef BASE64_H
#define BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BASE64_SIZE(bytes) (((bytes) + 2) / 3 * 4)

/* Write BASE64_SIZE(size) characters. */
void base64_encode(const uint8_t *bytes, size_t size, char *to);
/* Decode in place, or from one place to another; `*size` becomes the number of bytes. False: it is no Base64. */
bool base64_decode(const char *text, size_t length, uint8_t *to, size_t *size);

#endif
