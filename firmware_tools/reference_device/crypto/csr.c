/* SPDX-License-Identifier: Apache-2.0 */
/* The CSR of the provisioning group. */
#include <string.h>

#include "../core/crypto.h"

bool crypto_csr(const struct crypto_key *key, const char *name, uint8_t to[CRYPTO_CSR_MAX], size_t *size)
{
    const struct crypto_attribute subject = {CRYPTO_CN, name, strlen(name)};
    const struct crypto_wish wish = {.subject = &subject, .attributes = 1};
    return crypto_request(key, &wish, to, CRYPTO_CSR_MAX, size);
}
