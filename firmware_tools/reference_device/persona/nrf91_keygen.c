/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "../core/port.h"
#include "at_arguments.h"
#include "console.h"
#include "nrf91.h"
#include "statement.h"
#include "subject.h"

enum { CSR_MAX = 1024 };

/* "101010000": nine bits, digitalSignature first. */
static bool read_usage(const struct at_argument *from, unsigned *usage)
{
    *usage = 0;
    for (size_t i = 0; i < from->size; i++) {
        if (from->text[i] != '0' && from->text[i] != '1') {
            return false;
        }
        *usage |= (unsigned)(from->text[i] - '0') << (15 - i);
    }
    return from->quoted && from->size == 9;
}

static enum nrf91_outcome answer_key(const struct identity *who, uint32_t tag, const struct crypto_key *key,
                                     const struct crypto_wish *wish)
{
    uint8_t nonce[STATEMENT_NONCE];
    uint8_t body[CSR_MAX];
    size_t size = CRYPTO_SPKI;
    if (!port_entropy(nonce, sizeof nonce)) {
        return NRF91_KEYGEN_FAILED;
    }
    if (wish == NULL) {
        crypto_spki(key->point, body);
    } else if (!crypto_request(key, wish, body, sizeof body, &size)) {
        return NRF91_KEYGEN_FAILED;
    }
    console_print("%KEYGEN: \"");
    bool done = statement_of_key(who, wish == NULL ? STATEMENT_OF_PUBLIC_KEY : STATEMENT_OF_CSR, tag, body, size,
                                 nonce);
    console_print("\"\r\n");
    return done ? NRF91_DONE : NRF91_KEYGEN_FAILED;
}

enum nrf91_outcome nrf91_keygen(const struct nrf91_identity *id, const char *value, bool is_active, bool is_old)
{
    struct at_argument arguments[AT_ARGUMENTS];
    size_t count;
    uint32_t tag;
    uint32_t type;
    uint32_t content = 0;
    struct crypto_attribute subject[SUBJECT_ATTRIBUTES] = {{CRYPTO_CN, id->uuid, strlen(id->uuid)}};
    struct crypto_wish wish = {.subject = subject, .attributes = 1, .null_parameters = is_old};
    if (!at_split(value, arguments, &count) || count < 2 || count > 5 ||
        !at_number(&arguments[0], NRF91_LAST_TAG, &tag) || !at_number(&arguments[1], NRF91_LAST_TYPE, &type) ||
        (type != NRF91_CLIENT_KEY && type != NRF91_ENDORSEMENT_KEY) ||
        (count > 2 && !at_number(&arguments[2], 1, &content)) ||
        (count > 3 && arguments[3].size > 0 &&
         !subject_read(arguments[3].text, arguments[3].size, subject, &wish.attributes)) ||
        (count > 4 && !read_usage(&arguments[4], &wish.key_usage))) {
        return NRF91_BAD_PARAMETERS;
    }
    if (is_active) {
        return NRF91_ACTIVE;
    }
    struct vault_entry entry;
    struct crypto_key key;
    bool is_there = vault_find(tag, (uint8_t)type, &entry);
    if (is_there && (type == NRF91_CLIENT_KEY || entry.size != sizeof key)) {
        return NRF91_ALREADY_EXISTS;
    }
    enum nrf91_outcome outcome = NRF91_DONE;
    if (is_there) {
        memcpy(&key, entry.bytes, sizeof key);
    } else if (!crypto_make_key(&key) || !crypto_key_is_whole(&key)) {
        outcome = NRF91_KEYGEN_FAILED;
    } else {
        /* First the store, then the answer: no key is ever handed out that a power cut could take back. */
        outcome = nrf91_outcome_of(vault_put(tag, (uint8_t)type, &key, sizeof key));
    }
    if (outcome == NRF91_DONE) {
        outcome = answer_key(&id->who, tag, &key, type == NRF91_CLIENT_KEY && content == 0 ? &wish : NULL);
    }
    crypto_wipe(&key, sizeof key);
    return outcome;
}
