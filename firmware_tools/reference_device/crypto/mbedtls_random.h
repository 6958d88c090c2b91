/* SPDX-License-Identifier: Apache-2.0 */
/* The generator of crypto_open(), in the form in which Mbed TLS takes it; for the files of this folder only. */
#ifndef MBEDTLS_RANDOM_H
#define MBEDTLS_RANDOM_H

#include <stddef.h>

int mbedtls_random(void *unused, unsigned char *to, size_t size);

#endif
