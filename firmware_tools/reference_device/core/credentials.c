/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials.h"

#include <string.h>

#include "crypto.h"
#include "port.h"
#include "store.h"

static const char PROOF_DOMAIN[] = "provisioning-station proof v1"; /* its terminating zero is signed too */

static struct {
    uint8_t bytes[CRYPTO_CSR_MAX];
    size_t size; /* 0: not made since boot */
} csr;

/* The chain on its way in. Kept after it is stored, so that a repeated last piece gets the same answer. */
static struct {
    uint8_t bytes[CREDENTIALS_CHAIN_MAX];
    uint8_t sha[CRYPTO_SHA256];
    size_t size; /* 0: none on its way */
    size_t received;
} incoming;

static unsigned stored_locks(void)
{
    uint8_t locks;
    if (store_size(STORE_LOCKS) != 1 || !store_read(STORE_LOCKS, 0, &locks, 1)) {
        return 0;
    }
    return locks;
}

bool credentials_boot(void)
{
    csr.size = 0;
    incoming.size = 0;
    return (stored_locks() & LOCK_DEBUG) == 0 || port_close_debug();
}

static bool load_key(struct crypto_key *key)
{
    return store_size(STORE_KEY) == sizeof *key && store_read(STORE_KEY, 0, key, sizeof *key);
}

unsigned credentials_locks(void)
{
    unsigned locks = stored_locks();
    return (locks & LOCK_CREDENTIALS) | ((locks & LOCK_DEBUG) != 0 && port_debug_is_closed() ? LOCK_DEBUG : 0u);
}

enum credentials_state credentials_state(void)
{
    if (store_size(STORE_KEY) == 0) {
        return STATE_BLANK;
    }
    if (store_size(STORE_CHAIN) == 0) {
        return STATE_KEYED;
    }
    return (credentials_locks() & LOCK_CREDENTIALS) != 0 ? STATE_LOCKED : STATE_PROVISIONED;
}

static enum provisioning_rc make_key(struct crypto_key *key)
{
    if (!crypto_make_key(key) || !crypto_key_is_whole(key)) {
        return PROVISIONING_CRYPTO;
    }
    /* First the store, then the CSR: no key is ever handed out that a power cut could take back. */
    return store_write(STORE_KEY, key, sizeof *key) ? PROVISIONING_OK : PROVISIONING_STORAGE;
}

enum provisioning_rc credentials_csr(const uint8_t **bytes, size_t *size)
{
    enum provisioning_rc rc = PROVISIONING_OK;
    if (csr.size == 0) {
        struct crypto_key key;
        if (store_size(STORE_KEY) == 0) {
            rc = make_key(&key);
        } else if (!load_key(&key)) {
            rc = PROVISIONING_STORAGE;
        }
        if (rc == PROVISIONING_OK && !crypto_csr(&key, port_hardware_id(), csr.bytes, &csr.size)) {
            csr.size = 0;
            rc = PROVISIONING_CRYPTO;
        }
        crypto_wipe(&key, sizeof key);
    }
    *bytes = csr.bytes;
    *size = csr.size;
    return rc;
}

size_t credentials_chain_size(void)
{
    return store_size(STORE_CHAIN);
}

bool credentials_chain_read(size_t offset, uint8_t *to, size_t size)
{
    return store_read(STORE_CHAIN, offset, to, size);
}

bool credentials_chain_digest(size_t size, uint8_t digest[32])
{
    crypto_sha256_begin();
    for (size_t done = 0; done < size;) {
        uint8_t piece[256];
        size_t now = size - done < sizeof piece ? size - done : sizeof piece;
        if (!store_read(STORE_CHAIN, done, piece, now)) {
            return false;
        }
        crypto_sha256_add(piece, now);
        done += now;
    }
    crypto_sha256_end(digest);
    return true;
}

bool credentials_leaf_digest(uint8_t digest[32])
{
    /* The chain was checked before it was stored: its first element is a certificate, of which the head tells the
     * size. */
    uint8_t head[4];
    size_t whole = store_size(STORE_CHAIN);
    if (whole < sizeof head || !store_read(STORE_CHAIN, 0, head, sizeof head)) {
        return false;
    }
    size_t size = head[1] < 0x80    ? 2u + head[1]
                  : head[1] == 0x81 ? 3u + head[2]
                                    : 4u + ((size_t)head[2] << 8 | head[3]);
    return size <= whole && credentials_chain_digest(size, digest);
}

static bool is_stored(size_t size, const uint8_t sha[CRYPTO_SHA256])
{
    uint8_t digest[CRYPTO_SHA256];
    return store_size(STORE_CHAIN) == size && credentials_chain_digest(size, digest) &&
           memcmp(digest, sha, sizeof digest) == 0;
}

enum provisioning_rc credentials_chain_begin(size_t size, const uint8_t sha[32])
{
    incoming.size = 0;
    if (store_size(STORE_KEY) == 0) {
        return PROVISIONING_WRONG_STATE;
    }
    if (size > sizeof incoming.bytes) {
        return PROVISIONING_TOO_LARGE;
    }
    if ((credentials_locks() & LOCK_CREDENTIALS) != 0 && !is_stored(size, sha)) {
        return PROVISIONING_IS_LOCKED;
    }
    incoming.size = size;
    incoming.received = 0;
    memcpy(incoming.sha, sha, sizeof incoming.sha);
    return PROVISIONING_OK;
}

static enum provisioning_rc check_and_store(void)
{
    uint8_t digest[CRYPTO_SHA256];
    crypto_sha256_begin();
    crypto_sha256_add(incoming.bytes, incoming.size);
    crypto_sha256_end(digest);
    if (memcmp(digest, incoming.sha, sizeof digest) != 0) {
        return PROVISIONING_DIGEST_MISMATCH;
    }
    if (is_stored(incoming.size, digest)) {
        return PROVISIONING_OK;
    }
    struct crypto_key key;
    if (!load_key(&key)) {
        return PROVISIONING_STORAGE;
    }
    enum crypto_chain verdict = crypto_check_chain(incoming.bytes, incoming.size, key.point);
    crypto_wipe(&key, sizeof key);
    switch (verdict) {
    case CHAIN_GOOD:
        return store_write(STORE_CHAIN, incoming.bytes, incoming.size) ? PROVISIONING_OK : PROVISIONING_STORAGE;
    case CHAIN_FOR_ANOTHER_KEY:
        return PROVISIONING_WRONG_KEY;
    case CHAIN_IS_BROKEN:
        return PROVISIONING_BROKEN_LINK;
    default:
        return PROVISIONING_CHAIN_MALFORMED;
    }
}

enum provisioning_rc credentials_chain_add(size_t offset, const uint8_t *bytes, size_t count, size_t *next)
{
    if (incoming.size == 0 || offset > incoming.received) {
        return PROVISIONING_BAD_OFFSET;
    }
    if (count > incoming.size - offset) {
        return PROVISIONING_TOO_LARGE;
    }
    *next = incoming.received;
    if (offset < incoming.received) {
        /* The answer to this piece was lost: the same bytes get the same answer. */
        bool repeated = offset + count == incoming.received && memcmp(incoming.bytes + offset, bytes, count) == 0;
        return repeated ? PROVISIONING_OK : PROVISIONING_BAD_OFFSET;
    }
    memcpy(incoming.bytes + offset, bytes, count);
    incoming.received += count;
    *next = incoming.received;
    if (incoming.received < incoming.size) {
        return PROVISIONING_OK;
    }
    enum provisioning_rc rc = check_and_store();
    if (rc != PROVISIONING_OK) {
        incoming.size = 0;
    }
    return rc;
}

enum provisioning_rc credentials_prove(const uint8_t nonce[CREDENTIALS_NONCE], uint8_t *signature, size_t *size)
{
    uint8_t leaf[CRYPTO_SHA256];
    uint8_t digest[CRYPTO_SHA256];
    struct crypto_key key;
    if (credentials_state() < STATE_PROVISIONED) {
        return PROVISIONING_WRONG_STATE;
    }
    if (!credentials_leaf_digest(leaf) || !load_key(&key)) {
        return PROVISIONING_STORAGE;
    }
    crypto_sha256_begin();
    crypto_sha256_add(PROOF_DOMAIN, sizeof PROOF_DOMAIN);
    crypto_sha256_add(nonce, CREDENTIALS_NONCE);
    crypto_sha256_add(leaf, sizeof leaf);
    crypto_sha256_end(digest);
    bool done = crypto_sign(&key, digest, signature, size);
    crypto_wipe(&key, sizeof key);
    return done ? PROVISIONING_OK : PROVISIONING_CRYPTO;
}

enum provisioning_rc credentials_lock(uint64_t locks)
{
    if ((locks & ~(uint64_t)(LOCK_DEBUG | LOCK_CREDENTIALS)) != 0) {
        return PROVISIONING_BAD_REQUEST;
    }
    uint8_t all = (uint8_t)(stored_locks() | (unsigned)locks);
    if (all == stored_locks()) {
        return PROVISIONING_OK;
    }
    /* A lock on a board that has no chain would make scrap of it. */
    if (credentials_state() < STATE_PROVISIONED) {
        return PROVISIONING_WRONG_STATE;
    }
    /* First what says that it shall be so: cut here, the next boot closes the port. */
    if (!store_write(STORE_LOCKS, &all, 1) || ((all & LOCK_DEBUG) != 0 && !port_close_debug())) {
        return PROVISIONING_STORAGE;
    }
    return PROVISIONING_OK;
}
