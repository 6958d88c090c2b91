/* SPDX-License-Identifier: Apache-2.0 */
/* The CSR as fielded devices with Mbed TLS 2.28 send it: with NULL parameters in the signature algorithm. For testing
 * stations only; built instead of csr.c with LEGACY_CSR=1. */
#include <stdio.h>
#include <string.h>

#include <mbedtls/version.h>
#include <mbedtls/x509_csr.h>

#include "../core/crypto.h"
#include "mbedtls_random.h"

#if MBEDTLS_VERSION_MAJOR != 2
#error "only Mbed TLS 2.28 writes the CSR that this build is for"
#endif

static bool load(mbedtls_pk_context *pk, const struct crypto_key *key)
{
    if (mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)) != 0) {
        return false;
    }
    mbedtls_ecp_keypair *pair = mbedtls_pk_ec(*pk);
    return mbedtls_ecp_group_load(&pair->grp, MBEDTLS_ECP_DP_SECP256R1) == 0 &&
           mbedtls_mpi_read_binary(&pair->d, key->scalar, sizeof key->scalar) == 0 &&
           mbedtls_ecp_point_read_binary(&pair->grp, &pair->Q, key->point, sizeof key->point) == 0;
}

bool crypto_csr(const struct crypto_key *key, const char *name, uint8_t to[CRYPTO_CSR_MAX], size_t *size)
{
    char subject[80];
    int length = snprintf(subject, sizeof subject, "CN=%s", name);
    mbedtls_pk_context pk;
    mbedtls_x509write_csr request;
    mbedtls_pk_init(&pk);
    mbedtls_x509write_csr_init(&request);
    mbedtls_x509write_csr_set_md_alg(&request, MBEDTLS_MD_SHA256);
    int written = 0;
    if (length > 0 && (size_t)length < sizeof subject && load(&pk, key) &&
        mbedtls_x509write_csr_set_subject_name(&request, subject) == 0) {
        mbedtls_x509write_csr_set_key(&request, &pk);
        written = mbedtls_x509write_csr_der(&request, to, CRYPTO_CSR_MAX, mbedtls_random, NULL);
    }
    if (written > 0) { /* it stands at the end of the buffer */
        *size = (size_t)written;
        memmove(to, to + CRYPTO_CSR_MAX - *size, *size);
    }
    mbedtls_x509write_csr_free(&request);
    mbedtls_pk_free(&pk);
    return written > 0;
}
