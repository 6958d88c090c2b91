/* SPDX-License-Identifier: Apache-2.0 */
/* The key, the chain, the locks: what the provisioning group can do, and when. The state machine stands here:
 *
 *     BLANK --csr--> KEYED --chain--> PROVISIONED --lock CREDENTIALS--> LOCKED
 *
 * The state is not stored: it is what the records in the store say. */
#ifndef CREDENTIALS_H
#define CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CREDENTIALS_CHAIN_MAX = 4096 };
enum { CREDENTIALS_NONCE = 32 };

enum credentials_state { STATE_BLANK = 0, STATE_KEYED = 1, STATE_PROVISIONED = 2, STATE_LOCKED = 3 };

enum { LOCK_DEBUG = 1, LOCK_CREDENTIALS = 2 };

enum provisioning_rc {
    PROVISIONING_OK = 0,
    PROVISIONING_UNKNOWN = 1,
    PROVISIONING_BAD_REQUEST = 2,
    PROVISIONING_WRONG_STATE = 3,
    PROVISIONING_BAD_OFFSET = 4,
    PROVISIONING_TOO_LARGE = 5,
    PROVISIONING_DIGEST_MISMATCH = 6,
    PROVISIONING_CHAIN_MALFORMED = 7,
    PROVISIONING_WRONG_KEY = 8,
    PROVISIONING_BROKEN_LINK = 9,
    PROVISIONING_IS_LOCKED = 10,
    PROVISIONING_STORAGE = 11,
    PROVISIONING_CRYPTO = 12,
};

bool credentials_boot(void);
enum credentials_state credentials_state(void);

/* Make a key if there is none; it is in the store before this returns. The CSR stays until the next boot. */
enum provisioning_rc credentials_csr(const uint8_t **csr, size_t *size);

enum provisioning_rc credentials_chain_begin(size_t size, const uint8_t sha[32]);
/* Take a piece; the last one checks the chain and stores it. `*next` is the offset wanted next. */
enum provisioning_rc credentials_chain_add(size_t offset, const uint8_t *bytes, size_t count, size_t *next);
size_t credentials_chain_size(void);
bool credentials_chain_read(size_t offset, uint8_t *to, size_t size);
/* Digests of what stands in the store, read anew: of the first `size` bytes of the chain, and of the leaf. */
bool credentials_chain_digest(size_t size, uint8_t digest[32]);
bool credentials_leaf_digest(uint8_t digest[32]);

/* Sign PROOF_DOMAIN || nonce || SHA-256(leaf). */
enum provisioning_rc credentials_prove(const uint8_t nonce[CREDENTIALS_NONCE], uint8_t *signature, size_t *size);

enum provisioning_rc credentials_lock(uint64_t locks);
/* What is closed, as store and hardware say now. */
unsigned credentials_locks(void);

#endif
