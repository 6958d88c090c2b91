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
enum { RELEASE_AT = 20 };
/* Encrypted (with either size of key), or not to be booted. */
enum { FLAGS_REFUSED = 0x04 | 0x08 | 0x10 };
enum { TLV_MAGIC = 0x6907, TLV_PROTECTED_MAGIC = 0x6908 };
enum { TLV_KEY_HASH = 0x01, TLV_SHA256 = 0x10, TLV_ECDSA = 0x22 };

/* What the TLVs behind an image say. */
struct tlvs {
    bool has_hash;
    uint8_t hash[IMAGE_HASH];
    size_t signature_size; /* of the first signature that names our key; 0: there is none */
    uint8_t signature[CRYPTO_SIGNATURE_MAX];
};

static uint32_t get16(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static uint32_t get32(const uint8_t *from)
{
    return get16(from) | get16(from + 2) << 16;
}

enum port_flash_area image_area(int slot)
{
    return slot == 0 ? PORT_FLASH_SLOT0 : PORT_FLASH_SLOT1;
}

static bool read_slot(int slot, uint32_t offset, void *to, size_t size)
{
    if (offset > IMAGE_SLOT || size > IMAGE_SLOT - offset) {
        return false;
    }
    return port_flash_read(image_area(slot), offset, to, size);
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

/* By this hash a signature names its key: of the SubjectPublicKeyInfo. */
static void hash_key(const uint8_t *key, uint8_t hash[CRYPTO_SHA256])
{
    uint8_t spki[CRYPTO_SPKI];
    crypto_spki(key, spki);
    crypto_sha256_begin();
    crypto_sha256_add(spki, sizeof spki);
    crypto_sha256_end(hash);
}

/* Take one TLV. `*ours`: the key hash before it was that of our key; an image may be signed by more than one. */
static enum image_rc take_tlv(int slot, uint32_t type, uint32_t offset, uint32_t size, const uint8_t *key_hash,
                              bool *ours, struct tlvs *found)
{
    if (type == TLV_SHA256) {
        if (found->has_hash) {
            return IMAGE_MULTIPLE_HASHES;
        }
        found->has_hash = true;
        return size == IMAGE_HASH && read_slot(slot, offset, found->hash, size) ? IMAGE_OK : IMAGE_INVALID_TLV;
    }
    if (type == TLV_KEY_HASH) {
        uint8_t named[CRYPTO_SHA256];
        if (size != sizeof named || !read_slot(slot, offset, named, sizeof named)) {
            return IMAGE_INVALID_TLV;
        }
        *ours = key_hash != NULL && memcmp(named, key_hash, sizeof named) == 0;
    } else if (type == TLV_ECDSA && *ours && found->signature_size == 0) {
        if (size == 0 || size > sizeof found->signature || !read_slot(slot, offset, found->signature, size)) {
            return IMAGE_INVALID_TLV;
        }
        found->signature_size = size;
    }
    return IMAGE_OK;
}

/* Read the area of TLVs that begins at `offset`. */
static enum image_rc read_tlvs(int slot, uint32_t offset, struct tlvs *found)
{
    uint8_t head[TLV_HEAD];
    uint8_t key_hash[CRYPTO_SHA256];
    const uint8_t *key = port_image_key();
    if (key != NULL) {
        hash_key(key, key_hash);
    }
    if (!read_slot(slot, offset, head, TLV_HEAD) || get16(head) != TLV_MAGIC) {
        return IMAGE_NO_TLVS;
    }
    uint32_t total = get16(head + 2);
    if (total < TLV_HEAD || total > IMAGE_SLOT - offset) {
        return IMAGE_INVALID_TLV;
    }
    uint32_t end = offset + total;
    bool ours = false;
    for (offset += TLV_HEAD; offset < end;) {
        if (end - offset < TLV_HEAD || !read_slot(slot, offset, head, TLV_HEAD)) {
            return IMAGE_INVALID_TLV;
        }
        uint32_t size = get16(head + 2);
        offset += TLV_HEAD;
        if (size > end - offset) {
            return IMAGE_INVALID_TLV;
        }
        enum image_rc rc = take_tlv(slot, get16(head), offset, size, key == NULL ? NULL : key_hash, &ours, found);
        if (rc != IMAGE_OK) {
            return rc;
        }
        offset += size;
    }
    return found->has_hash ? IMAGE_OK : IMAGE_HASH_NOT_FOUND;
}

enum image_rc image_check_first(const uint8_t *bytes, size_t count, const uint8_t **release)
{
    *release = count >= RELEASE_AT + IMAGE_RELEASE ? bytes + RELEASE_AT : NULL;
    if (count < 4) {
        return IMAGE_INVALID_HEADER;
    }
    return get32(bytes) == HEADER_MAGIC ? IMAGE_OK : IMAGE_INVALID_MAGIC;
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
    if ((get32(header + 16) & FLAGS_REFUSED) != 0 || header_size < HEADER || body_size > IMAGE_SLOT || header_size + protected_size > IMAGE_SLOT - body_size) {
        return IMAGE_INVALID_HEADER;
    }
    uint32_t hashed = header_size + body_size + protected_size;
    uint8_t head[TLV_HEAD];
    if (protected_size > 0 && (!read_slot(slot, header_size + body_size, head, TLV_HEAD) ||
                               get16(head) != TLV_PROTECTED_MAGIC || get16(head + 2) != protected_size)) {
        return IMAGE_INVALID_TLV;
    }
    struct tlvs tlvs = {.has_hash = false};
    enum image_rc rc = read_tlvs(slot, hashed, &tlvs);
    if (rc != IMAGE_OK) {
        return rc;
    }
    if (!hash_slot(slot, hashed, image->hash)) {
        return IMAGE_FLASH_READ_FAILED;
    }
    if (memcmp(tlvs.hash, image->hash, IMAGE_HASH) != 0) {
        return IMAGE_INVALID_HASH;
    }
    const uint8_t *key = port_image_key();
    if (key != NULL && (tlvs.signature_size == 0 ||
                        !crypto_verify(key, image->hash, tlvs.signature, tlvs.signature_size))) {
        return IMAGE_NOT_SIGNED;
    }
    memcpy(image->release, header + RELEASE_AT, IMAGE_RELEASE);
    image->start = header_size;
    image->hashed = hashed;
    write_version(header + RELEASE_AT, image->version);
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
    return port_flash_program(image_area(slot), 0, whole, sizeof whole);
}
