/* SPDX-License-Identifier: Apache-2.0 */
/* Records in flash that survive a power cut at any moment: a write is there as a whole, or not at all.
 *
 * Two halves take turns. Each begins with a header (magic, generation, CRC), records follow; of a type, the last record
 * counts. A record counts if its CRC-32 is right. What does not read as a record or as erased is the rest of a torn
 * write: nothing is appended behind it, the next write moves to the other half. Moving copies what is still of use,
 * adds the new record, and programs the half's header last: only this makes the half count.
 *
 *     half:    magic(4) generation(4) crc32(4) 0xffffffff   record*   0xff...
 *     record:  magic(2) type(1) 0(1) size(4) crc32(4) 0xffffffff   payload, filled up with 0xff to 8 bytes
 *
 * Numbers are little endian. The CRC of a record covers the 8 bytes before it and the payload. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_HALF = 16384 };

enum store_type { STORE_KEY = 1, STORE_CHAIN = 2, STORE_LOCKS = 3, STORE_IMAGE = 4, STORE_VAULT = 5, STORE_TYPES = 8 };

/* Find out what the flash holds. False: it can't be read. */
bool store_open(void);
/* Bytes of a record's payload; 0 if there is none. */
size_t store_size(enum store_type type);
/* Read a part of a payload. False: there is no such part, or the flash can't be read. */
bool store_read(enum store_type type, size_t offset, void *to, size_t size);
/* Write a record in one go, `size` > 0. It is read back and compared before this returns true. */
bool store_write(enum store_type type, const void *payload, size_t size);

#endif
