/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <string.h>

#include "port.h"

enum { HEAD = 16 };          /* bytes of a half's header and of a record's */
enum { PIECE = 256 };        /* bytes read at once */
enum { RECORD_MAGIC = 0x5250 };
#define HALF_MAGIC 0x31565250u /* "PRV1" */

static struct {
    int half;             /* the one that counts; -1: none */
    uint32_t generation;
    uint32_t end;         /* where the next record goes */
    bool torn;            /* something else than 0xff stands behind the last record */
    uint32_t payload[STORE_TYPES]; /* offset in the half; 0: none */
    uint32_t size[STORE_TYPES];
} store;

static uint32_t crc32_update(uint32_t crc, const uint8_t *bytes, size_t size)
{
    static const uint32_t nibble[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    for (size_t i = 0; i < size; i++) {
        crc = nibble[(crc ^ bytes[i]) & 0xf] ^ crc >> 4;
        crc = nibble[(crc ^ (uint32_t)(bytes[i] >> 4)) & 0xf] ^ crc >> 4;
    }
    return crc;
}

static void put32(uint8_t *to, uint32_t number)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(number >> (8 * i));
    }
}

static uint32_t get32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint32_t padded(uint32_t size)
{
    return (size + PORT_FLASH_ALIGN - 1) / PORT_FLASH_ALIGN * PORT_FLASH_ALIGN;
}

static bool read_half(int half, uint32_t offset, void *to, size_t size)
{
    return port_flash_read(PORT_FLASH_STORE, (uint32_t)half * STORE_HALF + offset, to, size);
}

static bool program_half(int half, uint32_t offset, const void *from, size_t size)
{
    return port_flash_program(PORT_FLASH_STORE, (uint32_t)half * STORE_HALF + offset, from, size);
}

static bool is_erased(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0xff) {
            return false;
        }
    }
    return true;
}

/* Is there a whole record at `offset`? */
static bool check_record(int half, uint32_t offset, uint8_t *type, uint32_t *size)
{
    uint8_t head[HEAD];
    if (offset > STORE_HALF - HEAD || !read_half(half, offset, head, HEAD)) {
        return false;
    }
    *type = head[2];
    *size = get32(head + 4);
    if ((head[0] | head[1] << 8) != RECORD_MAGIC || *type == 0 || *type >= STORE_TYPES || *size == 0 ||
        *size > STORE_HALF - HEAD - offset) {
        return false;
    }
    uint32_t crc = crc32_update(0xffffffff, head, 8);
    for (uint32_t done = 0; done < *size;) {
        uint8_t piece[PIECE];
        uint32_t now = *size - done < PIECE ? *size - done : PIECE;
        if (!read_half(half, offset + HEAD + done, piece, now)) {
            return false;
        }
        crc = crc32_update(crc, piece, now);
        done += now;
    }
    return ~crc == get32(head + 8);
}

static bool rest_is_erased(int half, uint32_t offset)
{
    while (offset < STORE_HALF) {
        uint8_t piece[PIECE];
        uint32_t now = STORE_HALF - offset < PIECE ? STORE_HALF - offset : PIECE;
        if (!read_half(half, offset, piece, now) || !is_erased(piece, now)) {
            return false;
        }
        offset += now;
    }
    return true;
}

static bool read_generation(int half, bool *counts, uint32_t *generation)
{
    uint8_t head[HEAD];
    if (!read_half(half, 0, head, HEAD)) {
        return false;
    }
    *generation = get32(head + 4);
    *counts = get32(head) == HALF_MAGIC && ~crc32_update(0xffffffff, head, 8) == get32(head + 8);
    return true;
}

bool store_open(void)
{
    memset(&store, 0, sizeof store);
    store.half = -1;
    for (int half = 0; half < 2; half++) {
        bool counts;
        uint32_t generation;
        if (!read_generation(half, &counts, &generation)) {
            return false;
        }
        if (counts && (store.half < 0 || generation > store.generation)) {
            store.half = half;
            store.generation = generation;
        }
    }
    if (store.half < 0) {
        return true;
    }
    uint8_t type;
    uint32_t size;
    store.end = HEAD;
    while (check_record(store.half, store.end, &type, &size)) {
        store.payload[type] = store.end + HEAD;
        store.size[type] = size;
        store.end += HEAD + padded(size);
    }
    store.torn = !rest_is_erased(store.half, store.end);
    return true;
}

size_t store_size(enum store_type type)
{
    return store.payload[type] == 0 ? 0 : store.size[type];
}

bool store_read(enum store_type type, size_t offset, void *to, size_t size)
{
    size_t whole = store_size(type);
    if (offset > whole || size > whole - offset) {
        return false;
    }
    return read_half(store.half, store.payload[type] + (uint32_t)offset, to, size);
}

static bool program_payload(int half, uint32_t offset, const uint8_t *payload, uint32_t size)
{
    uint32_t whole = size / PORT_FLASH_ALIGN * PORT_FLASH_ALIGN;
    if (whole > 0 && !program_half(half, offset, payload, whole)) {
        return false;
    }
    if (whole < size) {
        uint8_t last[PORT_FLASH_ALIGN];
        memset(last, 0xff, sizeof last);
        memcpy(last, payload + whole, size - whole);
        return program_half(half, offset + whole, last, sizeof last);
    }
    return true;
}

static bool append(int half, uint32_t offset, enum store_type type, const uint8_t *payload, uint32_t size)
{
    uint8_t head[HEAD];
    memset(head, 0xff, sizeof head);
    head[0] = RECORD_MAGIC & 0xff;
    head[1] = RECORD_MAGIC >> 8;
    head[2] = (uint8_t)type;
    head[3] = 0;
    put32(head + 4, size);
    put32(head + 8, ~crc32_update(crc32_update(0xffffffff, head, 8), payload, size));
    uint8_t seen_type;
    uint32_t seen_size;
    return program_half(half, offset, head, HEAD) && program_payload(half, offset + HEAD, payload, size) &&
           check_record(half, offset, &seen_type, &seen_size);
}

/* Copy a whole record, header and all, to the other half. */
static bool copy(int from, uint32_t offset, int to, uint32_t to_offset, uint32_t size)
{
    for (uint32_t done = 0; done < size;) {
        uint8_t piece[PIECE];
        uint32_t now = size - done < PIECE ? size - done : PIECE;
        if (!read_half(from, offset + done, piece, now) || !program_half(to, to_offset + done, piece, now)) {
            return false;
        }
        done += now;
    }
    uint8_t type;
    uint32_t seen;
    return check_record(to, to_offset, &type, &seen);
}

/* Write the record into the other half together with all that is still of use, then let that half count. */
static bool move(enum store_type type, const uint8_t *payload, uint32_t size)
{
    int to = store.half == 0 ? 1 : 0;
    uint32_t at = HEAD;
    if (!port_flash_erase(PORT_FLASH_STORE, (uint32_t)to * STORE_HALF, STORE_HALF)) {
        return false;
    }
    for (int other = 1; other < STORE_TYPES; other++) {
        if (other != (int)type && store.payload[other] != 0) {
            uint32_t bytes = HEAD + padded(store.size[other]);
            if (bytes > STORE_HALF - at || !copy(store.half, store.payload[other] - HEAD, to, at, bytes)) {
                return false;
            }
            at += bytes;
        }
    }
    if (HEAD + padded(size) > STORE_HALF - at || !append(to, at, type, payload, size)) {
        return false;
    }
    uint8_t head[HEAD];
    memset(head, 0xff, sizeof head);
    put32(head, HALF_MAGIC);
    put32(head + 4, store.generation + 1);
    put32(head + 8, ~crc32_update(0xffffffff, head, 8));
    return program_half(to, 0, head, HEAD) && store_open() && store.half == to;
}

bool store_write(enum store_type type, const void *payload, size_t size)
{
    if (size == 0 || size > STORE_HALF / 3) {
        return false;
    }
    uint32_t bytes = HEAD + padded((uint32_t)size);
    if (store.half < 0 || store.torn || bytes > STORE_HALF - store.end) {
        return move(type, payload, (uint32_t)size);
    }
    if (!append(store.half, store.end, type, payload, (uint32_t)size)) {
        store.torn = true;
        return false;
    }
    store.payload[type] = store.end + HEAD;
    store.size[type] = (uint32_t)size;
    store.end += bytes;
    return true;
}
