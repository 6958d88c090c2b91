/* SPDX-License-Identifier: Apache-2.0 */
/* The CSR, written here and not by mbedtls_x509write_csr_der(): that of 2.28 puts NULL parameters into the signature
 * algorithm, which RFC 5758 3.2 forbids and strict parsers refuse. The bytes are the same with every Mbed TLS. */
#include <string.h>

#include <mbedtls/asn1write.h>
#include <mbedtls/oid.h>

#include "../core/crypto.h"

enum { SEQUENCE = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE };
enum { SET = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SET };
enum { ATTRIBUTES = MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_ASN1_CONSTRUCTED };
enum { REQUEST_MAX = 1024 };

/* id-at (2.5.4) and one arc more, in the order of enum crypto_attribute_type. */
static const uint8_t attribute_arc[] = {3, 10, 11, 6, 7, 8, 5};

/* Written backwards, as DER wants it: what is inside first, its head after. `ok` is sticky. */
struct writer {
    unsigned char *at;
    unsigned char *begin;
    bool ok;
};

static void raw(struct writer *to, const void *bytes, size_t size)
{
    to->ok = to->ok && mbedtls_asn1_write_raw_buffer(&to->at, to->begin, bytes, size) >= 0;
}

static void head(struct writer *to, const unsigned char *end, unsigned char tag)
{
    to->ok = to->ok && mbedtls_asn1_write_len(&to->at, to->begin, (size_t)(end - to->at)) >= 0 &&
             mbedtls_asn1_write_tag(&to->at, to->begin, tag) >= 0;
}

static void oid(struct writer *to, const void *bytes, size_t size)
{
    const unsigned char *end = to->at;
    raw(to, bytes, size);
    head(to, end, MBEDTLS_ASN1_OID);
}

/* RelativeDistinguishedName (RFC 5280 4.1.2.4). PrintableString where the standard wants it, UTF8String elsewhere. */
static void write_attribute(struct writer *to, const struct crypto_attribute *attribute)
{
    const unsigned char *end = to->at;
    bool printable = attribute->type == CRYPTO_COUNTRY || attribute->type == CRYPTO_SERIAL_NUMBER;
    raw(to, attribute->value, attribute->size);
    head(to, end, printable ? MBEDTLS_ASN1_PRINTABLE_STRING : MBEDTLS_ASN1_UTF8_STRING);
    const uint8_t type[] = {0x55, 0x04, attribute_arc[attribute->type]};
    oid(to, type, sizeof type);
    head(to, end, SEQUENCE);
    head(to, end, SET);
}

/* extensionRequest (RFC 2985 5.4.2) with keyUsage (RFC 5280 4.2.1.3): a named bit list, without trailing zeros. */
static void write_key_usage(struct writer *to, unsigned usage)
{
    const unsigned char *end = to->at;
    uint8_t bits[3] = {0, (uint8_t)(usage >> 8), (uint8_t)usage}; /* the first bit is the highest */
    size_t size = bits[2] != 0 ? 3 : 2;
    while ((bits[size - 1] >> bits[0] & 1) == 0) {
        bits[0] += 1;
    }
    raw(to, bits, size);
    head(to, end, MBEDTLS_ASN1_BIT_STRING);
    head(to, end, MBEDTLS_ASN1_OCTET_STRING);
    static const uint8_t critical[] = {MBEDTLS_ASN1_BOOLEAN, 1, 0xff};
    raw(to, critical, sizeof critical);
    oid(to, MBEDTLS_OID_KEY_USAGE, MBEDTLS_OID_SIZE(MBEDTLS_OID_KEY_USAGE));
    head(to, end, SEQUENCE);
    head(to, end, SEQUENCE);
    head(to, end, SET);
    oid(to, MBEDTLS_OID_PKCS9_CSR_EXT_REQ, MBEDTLS_OID_SIZE(MBEDTLS_OID_PKCS9_CSR_EXT_REQ));
    head(to, end, SEQUENCE);
}

/* CertificationRequestInfo (RFC 2986 4.1). */
static void write_info(struct writer *to, const struct crypto_key *key, const struct crypto_wish *wish)
{
    const unsigned char *end = to->at;
    if (wish->key_usage != 0) {
        write_key_usage(to, wish->key_usage);
    }
    head(to, end, ATTRIBUTES);
    uint8_t spki[CRYPTO_SPKI];
    crypto_spki(key->point, spki);
    raw(to, spki, sizeof spki);
    const unsigned char *name_end = to->at;
    for (size_t i = wish->attributes; i > 0; i--) {
        write_attribute(to, &wish->subject[i - 1]);
    }
    head(to, name_end, SEQUENCE);
    static const uint8_t version[] = {MBEDTLS_ASN1_INTEGER, 1, 0};
    raw(to, version, sizeof version);
    head(to, end, SEQUENCE);
}

bool crypto_request(const struct crypto_key *key, const struct crypto_wish *wish, uint8_t *to, size_t room,
                    size_t *size)
{
    uint8_t request[REQUEST_MAX] = {0};
    struct writer info = {request + sizeof request, request, true};
    write_info(&info, key, wish);
    size_t request_size = (size_t)(request + sizeof request - info.at);
    uint8_t digest[CRYPTO_SHA256];
    crypto_sha256_begin();
    crypto_sha256_add(info.at, request_size);
    crypto_sha256_end(digest);
    uint8_t signature[CRYPTO_SIGNATURE_MAX];
    size_t signature_size;
    if (!info.ok || !crypto_sign(key, digest, signature, &signature_size)) {
        return false;
    }

    uint8_t space[REQUEST_MAX] = {0};
    unsigned char *const end = space + sizeof space;
    struct writer out = {end, space, true};
    raw(&out, signature, signature_size);
    raw(&out, "", 1); /* no unused bits in the last byte */
    head(&out, end, MBEDTLS_ASN1_BIT_STRING);
    const unsigned char *algorithm_end = out.at;
    if (wish->null_parameters) {
        static const uint8_t null[] = {MBEDTLS_ASN1_NULL, 0};
        raw(&out, null, sizeof null);
    }
    oid(&out, MBEDTLS_OID_ECDSA_SHA256, MBEDTLS_OID_SIZE(MBEDTLS_OID_ECDSA_SHA256));
    head(&out, algorithm_end, SEQUENCE);
    raw(&out, info.at, request_size);
    head(&out, end, SEQUENCE);
    if (!out.ok || (size_t)(end - out.at) > room) {
        return false;
    }
    *size = (size_t)(end - out.at);
    memcpy(to, out.at, *size);
    return true;
}
