/* SPDX-License-Identifier: Apache-2.0 */
/* The cryptography that the core needs, and nothing of the library that does it: P-256, SHA-256, X.509. */
#ifndef CRYPTO_H
#define CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CRYPTO_SHA256 = 32 };
enum { CRYPTO_SCALAR = 32 };
enum { CRYPTO_POINT = 65 };
enum { CRYPTO_SPKI = 91 };
enum { CRYPTO_SIGNATURE_MAX = 72 }; /* ECDSA-Sig-Value in DER: two integers of up to 33 bytes, three heads of 2 */
enum { CRYPTO_CSR_MAX = 512 };

struct crypto_key {
    uint8_t scalar[CRYPTO_SCALAR]; /* private */
    uint8_t point[CRYPTO_POINT];   /* public, uncompressed (SEC 1, 2.3.3) */
};

enum crypto_chain { CHAIN_GOOD, CHAIN_IS_MALFORMED, CHAIN_FOR_ANOTHER_KEY, CHAIN_IS_BROKEN };

/* Called at boot. False: no entropy. */
bool crypto_open(void);
bool crypto_make_key(struct crypto_key *key);
/* Does the public half belong to the private one? Asked before a key is stored: a broken key must not get a
 * certificate. */
bool crypto_key_is_whole(const struct crypto_key *key);
/* ECDSA over a SHA-256 digest, with the nonce of RFC 6979: the same input gives the same signature. */
bool crypto_sign(const struct crypto_key *key, const uint8_t digest[CRYPTO_SHA256], uint8_t *der, size_t *size);
/* Is it a signature over the digest by the private half of this point? Zeros behind the DER are passed over: signers
 * pad to a fixed size. */
bool crypto_verify(const uint8_t point[CRYPTO_POINT], const uint8_t digest[CRYPTO_SHA256], const uint8_t *der,
                   size_t size);
/* CertificationRequest (RFC 2986) in DER; its subject is CN=`name`. The same input gives the same bytes. */
bool crypto_csr(const struct crypto_key *key, const char *name, uint8_t to[CRYPTO_CSR_MAX], size_t *size);
/* What a CSR asks for. */
enum crypto_attribute_type {
    CRYPTO_CN,
    CRYPTO_ORGANISATION,
    CRYPTO_UNIT,
    CRYPTO_COUNTRY,
    CRYPTO_LOCALITY,
    CRYPTO_STATE,
    CRYPTO_SERIAL_NUMBER,
};
struct crypto_attribute {
    enum crypto_attribute_type type;
    const char *value;
    size_t size;
};
struct crypto_wish {
    const struct crypto_attribute *subject;
    size_t attributes;
    unsigned key_usage;   /* 16 bits, digitalSignature the highest; 0: not asked for */
    bool null_parameters; /* NULL in the signature algorithm, as old devices write it and RFC 5758 3.2 forbids it */
};
bool crypto_request(const struct crypto_key *key, const struct crypto_wish *wish, uint8_t *to, size_t room,
                    size_t *size);
/* SubjectPublicKeyInfo (RFC 5480) in DER. */
void crypto_spki(const uint8_t point[CRYPTO_POINT], uint8_t to[CRYPTO_SPKI]);
/* Certificates in DER, leaf first, one after the other: is the leaf for this key, and each signed by the next one?
 * The device has no clock: validity is not looked at. */
enum crypto_chain crypto_check_chain(const uint8_t *chain, size_t size, const uint8_t point[CRYPTO_POINT]);
/* Bytes of the DER element that begins here, head included; 0: it does not fit into `size`. */
size_t crypto_der_size(const uint8_t *der, size_t size);
/* SHA-256 of what comes in pieces. There is one at a time. */
void crypto_sha256_begin(void);
void crypto_sha256_add(const void *bytes, size_t size);
void crypto_sha256_end(uint8_t digest[CRYPTO_SHA256]);
/* Overwrite what was secret; not optimised away. */
void crypto_wipe(void *bytes, size_t size);

#endif
