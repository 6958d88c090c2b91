/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials by security tag and type, as Nordic's modems and Zephyr's TLS credentials keep them. All of them are one
 * record of the store: a change is there as a whole after a power cut, or not at all. */
#ifndef VAULT_H
#define VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VAULT_BYTES = 5456 }; /* of all credentials together, 8 more for each: what the store takes in one record */

enum vault_rc { VAULT_OK, VAULT_FULL, VAULT_NOT_FOUND, VAULT_STORAGE };

struct vault_entry {
    uint32_t tag;
    uint8_t type;
    const uint8_t *bytes; /* until the next change */
    size_t size;
};

/* Read what the store holds. False: it can't be read. */
bool vault_open(void);
bool vault_find(uint32_t tag, uint8_t type, struct vault_entry *entry);
/* Go over all: `*cursor` is 0 at first. False: there are no more. */
bool vault_next(size_t *cursor, struct vault_entry *entry);
/* Write a credential, in the place of one with the same tag and type if there is one. */
enum vault_rc vault_put(uint32_t tag, uint8_t type, const void *bytes, size_t size);
enum vault_rc vault_remove(uint32_t tag, uint8_t type);

#endif
