/* SPDX-License-Identifier: Apache-2.0 */
#include "statement.h"

#include <string.h>

#include "../core/cbor.h"
#include "console.h"

enum { PAYLOAD_MAX = 128, COSE_MAX = 256 };
enum { RAW_SIGNATURE = 2 * CRYPTO_SCALAR };
enum { TAG_COSE_SIGN1 = 0xd2, NULL_VALUE = 0xf6, IDENTITY_MESSAGE = 1 };

static const uint8_t protected_header[] = {0xa1, 0x01, 0x26};   /* {alg: ES256} */
static const uint8_t identity_key[] = {0x21};                   /* -2 */
static const uint8_t self_described[] = {0xd9, 0xd9, 0xf7};     /* RFC 8949 3.4.6 */

static void put(struct cbor_writer *to, const uint8_t *bytes, size_t size)
{
    to->overflow = to->overflow || size > to->room - to->size;
    if (!to->overflow) {
        memcpy(to->bytes + to->size, bytes, size);
        to->size += size;
    }
}

/* ECDSA-Sig-Value in DER to the two numbers, 32 bytes each (RFC 9053 2.1). */
static bool to_raw(const uint8_t *der, size_t size, uint8_t raw[RAW_SIGNATURE])
{
    size_t at = 2;
    memset(raw, 0, RAW_SIGNATURE);
    for (size_t number = 0; number < 2; number++) {
        if (at + 2 > size || der[at + 1] > size - at - 2) {
            return false;
        }
        size_t length = der[at + 1];
        const uint8_t *bytes = der + at + 2;
        at += 2 + length;
        for (; length > CRYPTO_SCALAR && bytes[0] == 0; length--) {
            bytes += 1;
        }
        if (length > CRYPTO_SCALAR) {
            return false;
        }
        memcpy(raw + (number + 1) * CRYPTO_SCALAR - length, bytes, length);
    }
    return true;
}

/* Sig_structure (RFC 9052 4.4): context, protected header, no external data, payload. */
static bool sign(const struct crypto_key *key, const uint8_t *payload, size_t size, uint8_t raw[RAW_SIGNATURE])
{
    uint8_t bytes[COSE_MAX];
    struct cbor_writer to = {.bytes = bytes, .room = sizeof bytes};
    cbor_array(&to, 4);
    cbor_text(&to, "Signature1");
    cbor_bytes(&to, protected_header, sizeof protected_header);
    cbor_bytes(&to, NULL, 0);
    cbor_bytes(&to, payload, size);
    uint8_t digest[CRYPTO_SHA256];
    crypto_sha256_begin();
    crypto_sha256_add(bytes, to.size);
    crypto_sha256_end(digest);
    uint8_t der[CRYPTO_SIGNATURE_MAX];
    size_t der_size;
    return !to.overflow && crypto_sign(key, digest, der, &der_size) && to_raw(der, der_size, raw);
}

static bool print(const struct identity *who, const uint8_t *body, size_t body_size, const struct cbor_writer *payload,
                  bool detached)
{
    uint8_t raw[RAW_SIGNATURE];
    if (payload->overflow || !sign(&who->key, payload->bytes, payload->size, raw)) {
        return false;
    }
    uint8_t bytes[COSE_MAX];
    struct cbor_writer to = {.bytes = bytes, .room = sizeof bytes};
    static const uint8_t tag = TAG_COSE_SIGN1;
    static const uint8_t null = NULL_VALUE;
    put(&to, &tag, 1);
    cbor_array(&to, 4);
    cbor_bytes(&to, protected_header, sizeof protected_header);
    cbor_map(&to, 1);
    cbor_uint(&to, 4); /* kid */
    cbor_bytes(&to, identity_key, sizeof identity_key);
    if (detached) {
        put(&to, &null, 1);
    } else {
        cbor_bytes(&to, payload->bytes, payload->size);
    }
    cbor_bytes(&to, raw, sizeof raw);
    if (to.overflow) {
        return false;
    }
    console_print_base64url(body, body_size);
    console_print(".");
    console_print_base64url(bytes, to.size);
    return true;
}

bool statement_of_identity(const struct identity *who, const uint8_t nonce[STATEMENT_NONCE])
{
    uint8_t bytes[PAYLOAD_MAX];
    struct cbor_writer body = {.bytes = bytes, .room = sizeof bytes};
    put(&body, self_described, sizeof self_described);
    cbor_array(&body, 5);
    cbor_uint(&body, IDENTITY_MESSAGE);
    cbor_bytes(&body, who->uuid, sizeof who->uuid);
    cbor_uint(&body, who->type);
    cbor_bytes(&body, who->firmware, sizeof who->firmware);
    cbor_bytes(&body, nonce, STATEMENT_NONCE);
    return print(who, bytes, body.size, &body, true);
}

bool statement_of_key(const struct identity *who, unsigned kind, uint32_t tag, const uint8_t *body, size_t size,
                      const uint8_t nonce[STATEMENT_NONCE])
{
    uint8_t digest[CRYPTO_SHA256];
    crypto_sha256_begin();
    crypto_sha256_add(body, size);
    crypto_sha256_end(digest);
    uint8_t tag_bytes[8];
    struct cbor_writer tag_text = {.bytes = tag_bytes, .room = sizeof tag_bytes};
    cbor_uint(&tag_text, tag);
    uint8_t bytes[PAYLOAD_MAX];
    struct cbor_writer payload = {.bytes = bytes, .room = sizeof bytes};
    cbor_array(&payload, 5);
    cbor_uint(&payload, kind);
    cbor_bytes(&payload, who->uuid, sizeof who->uuid);
    cbor_bytes(&payload, tag_bytes, tag_text.size);
    cbor_bytes(&payload, digest, sizeof digest);
    cbor_bytes(&payload, nonce, STATEMENT_NONCE);
    return print(who, body, size, &payload, false);
}
