/* SPDX-License-Identifier: Apache-2.0 */
#include "vault.h"

#include <string.h>

#include "../core/store.h"

/* The record: "VLT1", then of each credential tag(4) size(2) type(1) 0(1) bytes; numbers are little endian. */
enum { MAGIC = 4, HEAD = 8 };

static uint8_t records[2][VAULT_BYTES]; /* what counts, and what is being made of it */
static int current;
static size_t whole;

static size_t read_entry(const uint8_t *at, struct vault_entry *entry)
{
    entry->tag = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    entry->size = (size_t)at[4] | (size_t)at[5] << 8;
    entry->type = at[6];
    entry->bytes = at + HEAD;
    return HEAD + entry->size;
}

bool vault_open(void)
{
    current = 0;
    whole = store_size(STORE_VAULT);
    if (whole == 0) {
        memcpy(records[0], "VLT1", MAGIC);
        whole = MAGIC;
        return true;
    }
    return whole <= VAULT_BYTES && store_read(STORE_VAULT, 0, records[0], whole);
}

bool vault_next(size_t *cursor, struct vault_entry *entry)
{
    size_t at = *cursor == 0 ? MAGIC : *cursor;
    if (at >= whole) {
        return false;
    }
    *cursor = at + read_entry(records[current] + at, entry);
    return true;
}

bool vault_find(uint32_t tag, uint8_t type, struct vault_entry *entry)
{
    for (size_t cursor = 0; vault_next(&cursor, entry);) {
        if (entry->tag == tag && entry->type == type) {
            return true;
        }
    }
    return false;
}

/* Copy all but one credential; returns the size. */
static size_t copy_others(uint32_t tag, uint8_t type, uint8_t *to)
{
    struct vault_entry entry;
    size_t size = MAGIC;
    memcpy(to, records[current], MAGIC);
    for (size_t cursor = 0; vault_next(&cursor, &entry);) {
        if (entry.tag != tag || entry.type != type) {
            memcpy(to + size, entry.bytes - HEAD, HEAD + entry.size);
            size += HEAD + entry.size;
        }
    }
    return size;
}

static enum vault_rc commit(size_t size)
{
    if (!store_write(STORE_VAULT, records[1 - current], size)) {
        return VAULT_STORAGE;
    }
    current = 1 - current;
    whole = size;
    return VAULT_OK;
}

enum vault_rc vault_put(uint32_t tag, uint8_t type, const void *bytes, size_t size)
{
    uint8_t *to = records[1 - current];
    size_t end = copy_others(tag, type, to);
    if (size > UINT16_MAX || HEAD + size > VAULT_BYTES - end) {
        return VAULT_FULL;
    }
    const uint8_t head[HEAD] = {(uint8_t)tag,         (uint8_t)(tag >> 8), (uint8_t)(tag >> 16),  (uint8_t)(tag >> 24),
                                (uint8_t)(size & 255), (uint8_t)(size >> 8), type, 0};
    memcpy(to + end, head, HEAD);
    memcpy(to + end + HEAD, bytes, size);
    return commit(end + HEAD + size);
}

enum vault_rc vault_remove(uint32_t tag, uint8_t type)
{
    struct vault_entry entry;
    if (!vault_find(tag, type, &entry)) {
        return VAULT_NOT_FOUND;
    }
    return commit(copy_others(tag, type, records[1 - current]));
}
