/* SPDX-License-Identifier: Apache-2.0 */
/* What the device needs of Mbed TLS 3.6, for builds from its source (-DMBEDTLS_CONFIG_FILE). A product takes this
 * file as it is, and adds MBEDTLS_MEMORY_BUFFER_ALLOC_C and its accelerators. */
#ifndef DEVICE_MBEDTLS_CONFIG_H
#define DEVICE_MBEDTLS_CONFIG_H

/* Keys and signatures: P-256 for the device, P-384 and RSA for the certificate authorities above it. */
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_ECP_C
#define MBEDTLS_ECP_DP_SECP256R1_ENABLED
#define MBEDTLS_ECP_DP_SECP384R1_ENABLED
#define MBEDTLS_ECP_NIST_OPTIM
#define MBEDTLS_ECDSA_C
#define MBEDTLS_ECDSA_DETERMINISTIC
#define MBEDTLS_RSA_C
#define MBEDTLS_PKCS1_V15
#define MBEDTLS_PKCS1_V21
#define MBEDTLS_X509_RSASSA_PSS_SUPPORT

/* Digests and the generator. */
#define MBEDTLS_MD_C
#define MBEDTLS_SHA224_C
#define MBEDTLS_SHA256_C
#define MBEDTLS_SHA384_C
#define MBEDTLS_SHA512_C
#define MBEDTLS_HMAC_DRBG_C

/* Certificates. No date check: the device has no clock. */
#define MBEDTLS_ASN1_PARSE_C
#define MBEDTLS_ASN1_WRITE_C
#define MBEDTLS_OID_C
#define MBEDTLS_PK_C
#define MBEDTLS_PK_PARSE_C
#define MBEDTLS_X509_USE_C
#define MBEDTLS_X509_CRT_PARSE_C

#define MBEDTLS_PLATFORM_C
#define MBEDTLS_HAVE_ASM

#endif
