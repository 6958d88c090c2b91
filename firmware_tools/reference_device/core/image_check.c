/* SPDX-License-Identifier: Apache-2.0 */
/* The form of an image: MCUboot's header, body, protected TLVs, TLVs. Numbers are little endian. */
#include <string.h>

#include "crypto.h"
#include "image.h"
#include "port.h"

#ifndef BUILTIN_MAJOR
#define BUILTIN_MAJOR 1
#endif
#ifndef BUILTIN_MINOR
#define BUILTIN_MINOR 0
#endif

enum { HEADER = 32, TLV_HEAD = 4, PIECE = 512 };
#define HEADER_MAGIC 0x96f3b83du
enum { TLV_MAGIC = 0x6907, TLV_PROTECTED_MAGIC = 0x6908, TLV_SHA256 = 0x10 };

static uint32_t get16(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static uint32_t get32(const uint8_t *from)
{
    return get16(from) | get16(from + 2) << 16;
}

static bool read_slot(int slot, uint32_t offset, void *to, size_t size)
{
    if (offset > IMAGE_SLOT || size > IMAGE_SLOT - offset) {
        return false;
    }
    return port_flash_read(slot == 0 ? PORT_FLASH_SLOT0 : PORT_FLASH_SLOT1, offset, to, size);
}

static char *put_number(char *at, uint32_t number)
{
    char digits[10];
    int count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        *at++ = digits[--count];
    }
    return at;
}

/* "major.minor.revision", and ".build" if there is one, as mcumgr writes it. */
static void write_version(const uint8_t version[8], char *to)
{
    to = put_number(to, version[0]);
    *to++ = '.';
    to = put_number(to, version[1]);
    *to++ = '.';
    to = put_number(to, get16(version + 2));
    if (get32(version + 4) != 0) {
        *to++ = '.';
        to = put_number(to, get32(version + 4));
    }
    *to = '\0';
}

static bool hash_slot(int slot, uint32_t size, uint8_t hash[IMAGE_HASH])
{
    crypto_sha256_begin();
    for (uint32_t done = 0; done < size;) {
        uint8_t piece[PIECE];
        uint32_t now = size - done < PIECE ? size - done : PIECE;
        if (!read_slot(slot, done, piece, now)) {
            return false;
        }
        crypto_sha256_add(piece, now);
        done += now;
    }
    crypto_sha256_end(hash);
    return true;
}

/* Find the one SHA-256 TLV in the area that begins at `offset`. Signature TLVs are passed over: no key is pinned
 * yet; this is where a bootloader checks them. */
static enum image_rc find_hash(int slot, uint32_t offset, uint8_t hash[IMAGE_HASH])
{
    uint8_t head[TLV_HEAD];
    if (!read_slot(slot, offset, head, TLV_HEAD) || get16(head) != TLV_MAGIC) {
        return IMAGE_NO_TLVS;
    }
    uint32_t total = get16(head + 2);
    if (total < TLV_HEAD || total > IMAGE_SLOT - offset) {
        return IMAGE_INVALID_TLV;
    }
    uint32_t end = offset + total;
    bool found = false;
    for (offset += TLV_HEAD; offset < end;) {
        if (end - offset < TLV_HEAD || !read_slot(slot, offset, head, TLV_HEAD)) {
            return IMAGE_INVALID_TLV;
        }
        uint32_t size = get16(head + 2);
        offset += TLV_HEAD;
        if (size > end - offset) {
            return IMAGE_INVALID_TLV;
        }
        if (get16(head) == TLV_SHA256) {
            if (found) {
                return IMAGE_MULTIPLE_HASHES;
            }
            if (size != IMAGE_HASH || !read_slot(slot, offset, hash, IMAGE_HASH)) {
                return IMAGE_INVALID_TLV;
            }
            found = true;
        }
        offset += size;
    }
    return found ? IMAGE_OK : IMAGE_HASH_NOT_FOUND;
}

enum image_rc image_check(int slot, struct image *image)
{
    uint8_t header[HEADER];
    memset(image, 0, sizeof *image);
    if (!read_slot(slot, 0, header, HEADER)) {
        return IMAGE_FLASH_READ_FAILED;
    }
    if (get32(header) != HEADER_MAGIC) {
        return IMAGE_INVALID_MAGIC;
    }
    uint32_t header_size = get16(header + 8);
    uint32_t protected_size = get16(header + 10);
    uint32_t body_size = get32(header + 12);
    if (header_size < HEADER || body_size > IMAGE_SLOT || header_size + protected_size > IMAGE_SLOT - body_size) {
        return IMAGE_INVALID_HEADER;
    }
    uint32_t hashed = header_size + body_size + protected_size;
    uint8_t head[TLV_HEAD];
    if (protected_size > 0 && (!read_slot(slot, header_size + body_size, head, TLV_HEAD) ||
                               get16(head) != TLV_PROTECTED_MAGIC || get16(head + 2) != protected_size)) {
        return IMAGE_INVALID_TLV;
    }
    uint8_t named[IMAGE_HASH];
    enum image_rc rc = find_hash(slot, hashed, named);
    if (rc != IMAGE_OK) {
        return rc;
    }
    if (!hash_slot(slot, hashed, image->hash)) {
        return IMAGE_FLASH_READ_FAILED;
    }
    if (memcmp(named, image->hash, IMAGE_HASH) != 0) {
        return IMAGE_INVALID_HASH;
    }
    write_version(header + 20, image->version);
    image->present = true;
    return IMAGE_OK;
}

bool image_write_builtin(int slot)
{
    enum { BODY = 32, TLVS = 2 * TLV_HEAD + IMAGE_HASH };
    static const char body[BODY] = "reference-device, as it left fab";
    uint8_t whole[HEADER + BODY + TLVS] = {0x3d, 0xb8, 0xf3, 0x96};
    whole[8] = HEADER;
    whole[12] = BODY;
    whole[20] = BUILTIN_MAJOR;
    whole[21] = BUILTIN_MINOR;
    memcpy(whole + HEADER, body, BODY);
    uint8_t *tlv = whole + HEADER + BODY;
    tlv[0] = TLV_MAGIC & 0xff;
    tlv[1] = TLV_MAGIC >> 8;
    tlv[2] = TLVS;
    tlv[4] = TLV_SHA256;
    tlv[6] = IMAGE_HASH;
    crypto_sha256_begin();
    crypto_sha256_add(whole, HEADER + BODY);
    crypto_sha256_end(tlv + 2 * TLV_HEAD);
    enum port_flash_area area = slot == 0 ? PORT_FLASH_SLOT0 : PORT_FLASH_SLOT1;
    return port_flash_program(area, 0, whole, sizeof whole);
}
