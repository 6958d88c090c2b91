/* SPDX-License-Identifier: Apache-2.0 */
/* crypto.h over Mbed TLS, 2.28 or 3.x: only calls that both have, and no field that 3.x hides. */
#include <string.h>

#include <mbedtls/asn1.h>
#include <mbedtls/asn1write.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/hmac_drbg.h>
#include <mbedtls/md.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "../core/crypto.h"
#include "../core/port.h"
#include "mbedtls_random.h"

#if MBEDTLS_VERSION_MAJOR < 3
/* 2.28 kept the old names for functions that return nothing. */
#define mbedtls_sha256_starts mbedtls_sha256_starts_ret
#define mbedtls_sha256_update mbedtls_sha256_update_ret
#define mbedtls_sha256_finish mbedtls_sha256_finish_ret
#elif MBEDTLS_VERSION_MAJOR > 3
#error "Mbed TLS 4 has no mbedtls_ecp interface any more: build against 2.28 or 3.6"
#endif

enum { MAX_CERTIFICATES = 4 };

static mbedtls_hmac_drbg_context drbg;
static mbedtls_sha256_context hash;

static int entropy(void *unused, unsigned char *to, size_t size)
{
    (void)unused;
    return port_entropy(to, size) ? 0 : MBEDTLS_ERR_HMAC_DRBG_ENTROPY_SOURCE_FAILED;
}

int mbedtls_random(void *unused, unsigned char *to, size_t size)
{
    (void)unused;
    /* The generator gives at most so much at once; RSA blinding never asks here, but the bound is cheap. */
    while (size > 0) {
        size_t now = size < MBEDTLS_HMAC_DRBG_MAX_REQUEST ? size : MBEDTLS_HMAC_DRBG_MAX_REQUEST;
        int failed = mbedtls_hmac_drbg_random(&drbg, to, now);
        if (failed != 0) {
            return failed;
        }
        to += now;
        size -= now;
    }
    return 0;
}

bool crypto_open(void)
{
    static bool open;
    if (open) { /* a reset in place: give back what the boot before took */
        mbedtls_hmac_drbg_free(&drbg);
        mbedtls_sha256_free(&hash);
    }
    open = true;
    mbedtls_hmac_drbg_init(&drbg);
    mbedtls_sha256_init(&hash);
    return mbedtls_hmac_drbg_seed(&drbg, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), entropy, NULL, NULL, 0) == 0;
}

void crypto_wipe(void *bytes, size_t size)
{
    mbedtls_platform_zeroize(bytes, size);
}

/* A software SHA-256 can't fail; an accelerator's failure shows as a digest that does not match. */
void crypto_sha256_begin(void)
{
    (void)mbedtls_sha256_starts(&hash, 0);
}

void crypto_sha256_add(const void *bytes, size_t size)
{
    (void)mbedtls_sha256_update(&hash, bytes, size);
}

void crypto_sha256_end(uint8_t digest[CRYPTO_SHA256])
{
    (void)mbedtls_sha256_finish(&hash, digest);
}

struct pair {
    mbedtls_ecp_group group;
    mbedtls_mpi d;
    mbedtls_ecp_point q;
};

static bool pair_open(struct pair *pair)
{
    mbedtls_ecp_group_init(&pair->group);
    mbedtls_mpi_init(&pair->d);
    mbedtls_ecp_point_init(&pair->q);
    return mbedtls_ecp_group_load(&pair->group, MBEDTLS_ECP_DP_SECP256R1) == 0;
}

static void pair_close(struct pair *pair)
{
    mbedtls_ecp_point_free(&pair->q);
    mbedtls_mpi_free(&pair->d);
    mbedtls_ecp_group_free(&pair->group);
}

bool crypto_make_key(struct crypto_key *key)
{
    struct pair pair;
    size_t size = 0;
    bool made = pair_open(&pair) && mbedtls_ecp_gen_keypair(&pair.group, &pair.d, &pair.q, mbedtls_random, NULL) == 0 &&
                mbedtls_mpi_write_binary(&pair.d, key->scalar, sizeof key->scalar) == 0 &&
                mbedtls_ecp_point_write_binary(&pair.group, &pair.q, MBEDTLS_ECP_PF_UNCOMPRESSED, &size, key->point,
                                               sizeof key->point) == 0 &&
                size == sizeof key->point;
    pair_close(&pair);
    return made;
}

bool crypto_key_is_whole(const struct crypto_key *key)
{
    struct pair pair;
    uint8_t point[CRYPTO_POINT];
    size_t size = 0;
    bool whole = pair_open(&pair) && mbedtls_mpi_read_binary(&pair.d, key->scalar, sizeof key->scalar) == 0 &&
                 mbedtls_ecp_check_privkey(&pair.group, &pair.d) == 0 &&
                 mbedtls_ecp_mul(&pair.group, &pair.q, &pair.d, &pair.group.G, mbedtls_random, NULL) == 0 &&
                 mbedtls_ecp_point_write_binary(&pair.group, &pair.q, MBEDTLS_ECP_PF_UNCOMPRESSED, &size, point,
                                                sizeof point) == 0 &&
                 memcmp(point, key->point, sizeof point) == 0;
    pair_close(&pair);
    return whole;
}

static bool write_signature(const mbedtls_mpi *r, const mbedtls_mpi *s, uint8_t *der, size_t *size)
{
    uint8_t space[CRYPTO_SIGNATURE_MAX] = {0};
    unsigned char *at = space + sizeof space;
    int bytes = mbedtls_asn1_write_mpi(&at, space, s);
    if (bytes < 0) {
        return false;
    }
    int more = mbedtls_asn1_write_mpi(&at, space, r);
    if (more < 0) {
        return false;
    }
    bytes += more;
    if (mbedtls_asn1_write_len(&at, space, (size_t)bytes) < 0 ||
        mbedtls_asn1_write_tag(&at, space, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) < 0) {
        return false;
    }
    *size = (size_t)(space + sizeof space - at);
    memcpy(der, at, *size);
    return true;
}

bool crypto_sign(const struct crypto_key *key, const uint8_t digest[CRYPTO_SHA256], uint8_t *der, size_t *size)
{
    struct pair pair;
    mbedtls_mpi r;
    mbedtls_mpi s;
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    bool signed_ = pair_open(&pair) && mbedtls_mpi_read_binary(&pair.d, key->scalar, sizeof key->scalar) == 0 &&
                   mbedtls_ecdsa_sign_det_ext(&pair.group, &r, &s, &pair.d, digest, CRYPTO_SHA256, MBEDTLS_MD_SHA256,
                                              mbedtls_random, NULL) == 0 &&
                   write_signature(&r, &s, der, size);
    mbedtls_mpi_free(&s);
    mbedtls_mpi_free(&r);
    pair_close(&pair);
    return signed_;
}

static bool verify_numbers(struct pair *pair, unsigned char *at, const unsigned char *end,
                           const uint8_t digest[CRYPTO_SHA256])
{
    mbedtls_mpi r;
    mbedtls_mpi s;
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    bool good = mbedtls_asn1_get_mpi(&at, end, &r) == 0 && mbedtls_asn1_get_mpi(&at, end, &s) == 0 && at == end &&
                mbedtls_ecdsa_verify(&pair->group, digest, CRYPTO_SHA256, &pair->q, &r, &s) == 0;
    mbedtls_mpi_free(&s);
    mbedtls_mpi_free(&r);
    return good;
}

bool crypto_verify(const uint8_t point[CRYPTO_POINT], const uint8_t digest[CRYPTO_SHA256], const uint8_t *der,
                   size_t size)
{
    size_t signature = crypto_der_size(der, size);
    for (size_t i = signature; i < size; i++) {
        if (der[i] != 0) {
            return false;
        }
    }
    struct pair pair;
    unsigned char *at = (unsigned char *)(uintptr_t)der; /* moved, not written through */
    size_t content;
    bool good = pair_open(&pair) &&
                mbedtls_ecp_point_read_binary(&pair.group, &pair.q, point, CRYPTO_POINT) == 0 &&
                mbedtls_ecp_check_pubkey(&pair.group, &pair.q) == 0 &&
                mbedtls_asn1_get_tag(&at, der + signature, &content,
                                     MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) == 0 &&
                verify_numbers(&pair, at, at + content, digest);
    pair_close(&pair);
    return good;
}

void crypto_spki(const uint8_t point[CRYPTO_POINT], uint8_t to[CRYPTO_SPKI])
{
    /* SEQUENCE { SEQUENCE { id-ecPublicKey, secp256r1 }, BIT STRING point }: all of one length for P-256. */
    static const uint8_t head[CRYPTO_SPKI - CRYPTO_POINT] = {
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
        0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    };
    memcpy(to, head, sizeof head);
    memcpy(to + sizeof head, point, CRYPTO_POINT);
}

size_t crypto_der_size(const uint8_t *der, size_t size)
{
    /* Mbed TLS takes pointers that it moves and does not write through. */
    unsigned char *at = (unsigned char *)(uintptr_t)der;
    size_t content = 0;
    if (size == 0 ||
        mbedtls_asn1_get_tag(&at, der + size, &content, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) != 0) {
        return 0;
    }
    return (size_t)(at - der) + content;
}

/* Is `child` signed by `parent`, and may `parent` sign it? Dates are left out: the device has no clock. */
static bool is_signed_by(mbedtls_x509_crt *child, mbedtls_x509_crt *parent)
{
    const uint32_t dates = MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE;
    uint32_t flags = 0;
    int failed = mbedtls_x509_crt_verify_with_profile(child, parent, NULL, &mbedtls_x509_crt_profile_default, NULL,
                                                      &flags, NULL, NULL);
    return failed == 0 || (failed == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED && (flags & ~dates) == 0);
}

enum crypto_chain crypto_check_chain(const uint8_t *chain, size_t size, const uint8_t point[CRYPTO_POINT])
{
    mbedtls_x509_crt certificates[MAX_CERTIFICATES];
    for (size_t i = 0; i < MAX_CERTIFICATES; i++) {
        mbedtls_x509_crt_init(&certificates[i]);
    }
    enum crypto_chain verdict = CHAIN_GOOD;
    size_t count = 0;
    while (size > 0 && verdict == CHAIN_GOOD) {
        size_t bytes = crypto_der_size(chain, size);
        if (bytes == 0 || count == MAX_CERTIFICATES ||
            mbedtls_x509_crt_parse_der(&certificates[count], chain, bytes) != 0) {
            verdict = CHAIN_IS_MALFORMED;
        } else {
            count += 1;
            chain += bytes;
            size -= bytes;
        }
    }
    if (count == 0) {
        verdict = CHAIN_IS_MALFORMED;
    }
    if (verdict == CHAIN_GOOD) {
        uint8_t own[CRYPTO_SPKI];
        crypto_spki(point, own);
        if (certificates[0].pk_raw.len != sizeof own || memcmp(certificates[0].pk_raw.p, own, sizeof own) != 0) {
            verdict = CHAIN_FOR_ANOTHER_KEY;
        }
    }
    for (size_t i = 0; i + 1 < count && verdict == CHAIN_GOOD; i++) {
        if (!is_signed_by(&certificates[i], &certificates[i + 1])) {
            verdict = CHAIN_IS_BROKEN;
        }
    }
    for (size_t i = 0; i < MAX_CERTIFICATES; i++) {
        mbedtls_x509_crt_free(&certificates[i]);
    }
    return verdict;
}
