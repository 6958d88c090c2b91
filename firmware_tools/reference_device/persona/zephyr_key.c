/* SPDX-License-Identifier: Apache-2.0 */
/* `nrf_cloud_cred`: a key that is made on the board and never shown, and CSRs by it. */
#include <string.h>

#include "../core/crypto.h"
#include "base64.h"
#include "subject.h"
#include "vault.h"
#include "zephyr.h"

enum { CSR_MAX = 512 };

static bool load(uint32_t tag, struct crypto_key *key)
{
    struct vault_entry entry;
    if (!vault_find(tag, ZEPHYR_DEVICE_KEY, &entry) || entry.size != sizeof *key) {
        return false;
    }
    memcpy(key, entry.bytes, sizeof *key);
    return true;
}

static void keygen(uint32_t tag)
{
    struct crypto_key key;
    if (load(tag, &key)) {
        zephyr_print("Key already exists in sec tag ");
        zephyr_print_number(tag);
        zephyr_print(". Use 'delete' to remove it first.\r\n");
        return;
    }
    zephyr_log("drawing randomness");
    const uint8_t id[4] = {(uint8_t)tag, (uint8_t)(tag >> 8), (uint8_t)(tag >> 16), (uint8_t)(tag >> 24)};
    if (!crypto_make_key(&key) || !crypto_key_is_whole(&key) ||
        vault_put(tag, ZEPHYR_DEVICE_KEY, &key, sizeof key) != VAULT_OK ||
        vault_put(tag, ZEPHYR_PK_PSA, id, sizeof id) != VAULT_OK) {
        zephyr_print("Key generation failed: -5\r\n");
    } else {
        zephyr_print("Generated device key in sec tag ");
        zephyr_print_number(tag);
        zephyr_print("\r\n");
    }
    crypto_wipe(&key, sizeof key);
}

static void print_base64(const char *title, const uint8_t *bytes, size_t size)
{
    char text[BASE64_SIZE(CSR_MAX)];
    base64_encode(bytes, size, text);
    zephyr_print(title);
    zephyr_print_sized(text, BASE64_SIZE(size));
    zephyr_print("\r\n");
}

static void csr(uint32_t tag, const char *subject)
{
    struct crypto_key key;
    struct crypto_attribute name[SUBJECT_ATTRIBUTES];
    struct crypto_wish wish = {.subject = name, .attributes = 1};
    uint8_t der[CSR_MAX];
    size_t size;
    if (subject == NULL) {
        name[0] = (struct crypto_attribute){CRYPTO_CN, zephyr_device_id(), strlen(zephyr_device_id())};
    } else if (!subject_read(subject, strlen(subject), name, &wish.attributes)) {
        zephyr_print("CSR generation failed: -22\r\n");
        return;
    }
    if (!load(tag, &key)) {
        zephyr_print("CSR generation failed: -2\r\n");
        return;
    }
    bool done = crypto_request(&key, &wish, der, sizeof der, &size);
    crypto_wipe(&key, sizeof key);
    if (!done) {
        zephyr_print("CSR generation failed: -5\r\n");
        return;
    }
    print_base64("CSR: ", der, size);
    zephyr_print("CSR generation complete\r\n");
}

static void pubkey(uint32_t tag)
{
    struct crypto_key key;
    if (!load(tag, &key)) {
        zephyr_print("Public key export failed: -2\r\n");
        return;
    }
    print_base64("PUBKEY: ", key.point, sizeof key.point);
    crypto_wipe(&key, sizeof key);
    zephyr_print("Public key export complete\r\n");
}

static void delete(uint32_t tag)
{
    if (vault_remove(tag, ZEPHYR_DEVICE_KEY) != VAULT_OK) {
        zephyr_print("Key deletion failed: -2\r\n");
        return;
    }
    (void)vault_remove(tag, ZEPHYR_PK_PSA);
    zephyr_print("Deleted device key in sec tag ");
    zephyr_print_number(tag);
    zephyr_print("\r\n");
}

void zephyr_key(size_t count, char *words[])
{
    uint32_t tag = ZEPHYR_TAG;
    const char *verb = count > 1 ? words[1] : "";
    if (count > 2 && !zephyr_read_tag(words[2], &tag)) {
        return;
    }
    if (strcmp(verb, "keygen") == 0) {
        keygen(tag);
    } else if (strcmp(verb, "csr") == 0) {
        csr(tag, count > 3 ? words[3] : NULL);
    } else if (strcmp(verb, "pubkey") == 0) {
        pubkey(tag);
    } else if (strcmp(verb, "delete") == 0) {
        delete(tag);
    } else {
        zephyr_print_line("nrf_cloud_cred: wrong parameter count", (char *)NULL);
    }
}
