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

/* CertificationRequestInfo (RFC 2986 4.1) with an empty set of attributes. */
static void write_request(struct writer *to, const struct crypto_key *key, const char *name)
{
    const unsigned char *end = to->at;
    head(to, to->at, ATTRIBUTES);
    uint8_t spki[CRYPTO_SPKI];
    crypto_spki(key->point, spki);
    raw(to, spki, sizeof spki);
    const unsigned char *name_end = to->at;
    raw(to, name, strlen(name));
    head(to, name_end, MBEDTLS_ASN1_UTF8_STRING);
    const unsigned char *oid_end = to->at;
    raw(to, MBEDTLS_OID_AT_CN, MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_CN));
    head(to, oid_end, MBEDTLS_ASN1_OID);
    head(to, name_end, SEQUENCE);
    head(to, name_end, SET);
    head(to, name_end, SEQUENCE);
    static const uint8_t version[] = {MBEDTLS_ASN1_INTEGER, 1, 0};
    raw(to, version, sizeof version);
    head(to, end, SEQUENCE);
}

bool crypto_csr(const struct crypto_key *key, const char *name, uint8_t to[CRYPTO_CSR_MAX], size_t *size)
{
    uint8_t request[CRYPTO_CSR_MAX] = {0};
    struct writer info = {request + sizeof request, request, true};
    write_request(&info, key, name);
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

    uint8_t space[CRYPTO_CSR_MAX] = {0};
    unsigned char *const end = space + sizeof space;
    struct writer out = {end, space, true};
    raw(&out, signature, signature_size);
    raw(&out, "", 1); /* no unused bits in the last byte */
    head(&out, end, MBEDTLS_ASN1_BIT_STRING);
    const unsigned char *algorithm_end = out.at;
    raw(&out, MBEDTLS_OID_ECDSA_SHA256, MBEDTLS_OID_SIZE(MBEDTLS_OID_ECDSA_SHA256));
    head(&out, algorithm_end, MBEDTLS_ASN1_OID);
    head(&out, algorithm_end, SEQUENCE);
    raw(&out, info.at, request_size);
    head(&out, end, SEQUENCE);
    if (!out.ok) {
        return false;
    }
    *size = (size_t)(end - out.at);
    memcpy(to, out.at, *size);
    return true;
}
