/* SPDX-License-Identifier: Apache-2.0 */
/* A small, bounded CBOR (RFC 8949): what SMP messages need, and no more.
 *
 * Reading goes over a request's one map in a single pass into a table of fields that the caller knows. Unknown keys are
 * skipped with what they hold, to a fixed depth; maps and arrays may be of indefinite length. Strings may not, known or
 * not: they come in pieces, and a field is one piece of the request. Nothing is copied. */
#ifndef CBOR_H
#define CBOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cbor_type { CBOR_UINT, CBOR_BYTES, CBOR_TEXT, CBOR_BOOL };

struct cbor_field {
    const char *key;
    enum cbor_type type;
    bool present;
    uint64_t number;      /* CBOR_UINT, CBOR_BOOL (0 or 1) */
    const uint8_t *bytes; /* CBOR_BYTES, CBOR_TEXT (not terminated) */
    size_t size;
};

/* Read one map that fills `bytes` to the last byte. False: malformed, a key twice, or a known key with another type. */
bool cbor_read_map(const uint8_t *bytes, size_t size, struct cbor_field *fields, size_t count);

struct cbor_writer {
    uint8_t *bytes;
    size_t room;
    size_t size;
    bool overflow; /* sticky; once set, nothing more is written */
};

void cbor_map(struct cbor_writer *to, size_t pairs);
void cbor_array(struct cbor_writer *to, size_t items);
void cbor_uint(struct cbor_writer *to, uint64_t number);
void cbor_bool(struct cbor_writer *to, bool value);
void cbor_text(struct cbor_writer *to, const char *text);
void cbor_text_sized(struct cbor_writer *to, const uint8_t *text, size_t size);
void cbor_bytes(struct cbor_writer *to, const uint8_t *bytes, size_t size);
/* Head of a byte string of `size` bytes; returns where its content goes, or NULL if it does not fit. */
uint8_t *cbor_bytes_space(struct cbor_writer *to, size_t size);

#endif
