/* SPDX-License-Identifier: Apache-2.0 */
/* What a modem says of itself and signs with its identity key: a body and a COSE_Sign1 (RFC 9052 4.2), both in
 * base64url, with a dot between them. */
#ifndef STATEMENT_H
#define STATEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/crypto.h"

enum { STATEMENT_UUID = 16, STATEMENT_NONCE = 16 };

struct identity {
    struct crypto_key key;
    uint8_t uuid[STATEMENT_UUID];
    uint8_t firmware[STATEMENT_UUID];
    uint8_t type; /* of the chip: 1 nRF9160, 4 nRF9161, 5 nRF9131, 6 nRF9151 */
};

enum { STATEMENT_OF_PUBLIC_KEY = 8, STATEMENT_OF_CSR = 9 };

/* Print "body.cose": who this device is. The COSE has no payload of its own; the body is it. False: it can't sign. */
bool statement_of_identity(const struct identity *who, const uint8_t nonce[STATEMENT_NONCE]);
/* Print "body.cose": that this key (a CSR, or a public key) was made in `tag`. */
bool statement_of_key(const struct identity *who, unsigned kind, uint32_t tag, const uint8_t *body, size_t size,
                      const uint8_t nonce[STATEMENT_NONCE]);

#endif
