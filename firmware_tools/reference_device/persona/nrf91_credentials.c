/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "at_arguments.h"
#include "console.h"
#include "nrf91.h"

static void digest_of(const void *bytes, size_t size, uint8_t digest[CRYPTO_SHA256])
{
    crypto_sha256_begin();
    crypto_sha256_add(bytes, size);
    crypto_sha256_end(digest);
}

enum nrf91_outcome nrf91_outcome_of(enum vault_rc rc)
{
    return rc == VAULT_OK          ? NRF91_DONE
           : rc == VAULT_FULL      ? NRF91_MEMORY_FULL
           : rc == VAULT_NOT_FOUND ? NRF91_NOT_FOUND
                                   : NRF91_FAILED;
}

static void print_entry(const struct vault_entry *entry)
{
    uint8_t digest[CRYPTO_SHA256];
    uint8_t spki[CRYPTO_SPKI];
    if (entry->size == sizeof(struct crypto_key) && entry->type != NRF91_CLIENT_CERTIFICATE &&
        entry->type != NRF91_ROOT_CA) {
        struct crypto_key key;
        memcpy(&key, entry->bytes, sizeof key);
        crypto_spki(key.point, spki);
        crypto_wipe(&key, sizeof key);
        digest_of(spki, sizeof spki, digest);
    } else {
        digest_of(entry->bytes, entry->size, digest);
    }
    console_print("%CMNG: ");
    console_print_number(entry->tag);
    console_print(",");
    console_print_number(entry->type);
    console_print(",\"");
    console_print_hex(digest, sizeof digest);
    console_print_line("\"");
}

static enum nrf91_outcome list(const uint32_t *tag, const uint32_t *type)
{
    struct vault_entry entry;
    for (size_t cursor = 0; vault_next(&cursor, &entry);) {
        if ((tag == NULL || *tag == entry.tag) && (type == NULL || *type == entry.type)) {
            print_entry(&entry);
        }
    }
    return NRF91_DONE;
}

static enum nrf91_outcome store_credential(uint32_t tag, uint32_t type, const struct at_argument *content)
{
    struct vault_entry entry;
    if (type == NRF91_CLIENT_KEY && vault_find(tag, NRF91_CLIENT_KEY, &entry)) {
        return NRF91_ALREADY_EXISTS;
    }
    return nrf91_outcome_of(vault_put(tag, (uint8_t)type, content->text, content->size));
}

enum nrf91_outcome nrf91_manage(const char *value, bool is_active)
{
    struct at_argument arguments[AT_ARGUMENTS];
    size_t count;
    uint32_t operation;
    uint32_t tag = 0;
    uint32_t type = 0;
    if (!at_split(value, arguments, &count) || !at_number(&arguments[0], 3, &operation) ||
        (count > 1 && !at_number(&arguments[1], UINT32_MAX, &tag)) ||
        (count > 2 && !at_number(&arguments[2], NRF91_LAST_TYPE, &type))) {
        return NRF91_BAD_PARAMETERS;
    }
    if (operation == 1) {
        return list(count > 1 ? &tag : NULL, count > 2 ? &type : NULL);
    }
    if (count < 3 || tag > NRF91_LAST_TAG) {
        return NRF91_BAD_PARAMETERS;
    }
    switch (operation) {
    case 0:
        if (count < 4 || !arguments[3].quoted || arguments[3].size == 0) {
            return NRF91_BAD_PARAMETERS;
        }
        return is_active ? NRF91_ACTIVE : store_credential(tag, type, &arguments[3]);
    case 3:
        return is_active ? NRF91_ACTIVE : nrf91_outcome_of(vault_remove(tag, (uint8_t)type));
    default:
        return NRF91_NO_ACCESS; /* what is in there stays in there */
    }
}
