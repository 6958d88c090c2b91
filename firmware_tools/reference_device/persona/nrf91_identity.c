/* SPDX-License-Identifier: Apache-2.0 */
#include "nrf91_identity.h"

#include <string.h>

#include "../core/port.h"
#include "at_arguments.h"
#include "vault.h"

enum { UUID_TEXT = NRF91_UUID - 1 };

static void sha256(const void *bytes, size_t size, uint8_t digest[CRYPTO_SHA256])
{
    crypto_sha256_begin();
    crypto_sha256_add(bytes, size);
    crypto_sha256_end(digest);
}

static bool read_uuid(const char *text, uint8_t to[STATEMENT_UUID])
{
    char digits[2 * STATEMENT_UUID];
    size_t count = 0;
    if (strlen(text) != UUID_TEXT) {
        return false;
    }
    for (size_t i = 0; i < UUID_TEXT; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i] != '-') {
                return false;
            }
            continue;
        }
        digits[count] = text[i];
        count += 1;
    }
    return at_hex(digits, sizeof digits, to);
}

static void print_uuid(const uint8_t uuid[STATEMENT_UUID], char *to)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < STATEMENT_UUID; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *to++ = '-';
        }
        *to++ = digits[uuid[i] >> 4];
        *to++ = digits[uuid[i] & 15];
    }
    *to = '\0';
}

/* 14 digits and the one of ISO/IEC 7812 (Luhn) that checks them: 3GPP TS 23.003 6.2.1. */
static void make_imei(const uint8_t digest[CRYPTO_SHA256], char to[NRF91_IMEI])
{
    unsigned sum = 0;
    for (size_t i = 0; i < 14; i++) {
        unsigned digit = i == 0 ? 3 : i == 1 ? 5 : digest[16 + i] % 10u;
        unsigned twice = i % 2 == 1 ? 2 * digit : digit;
        sum += twice / 10 + twice % 10;
        to[i] = (char)('0' + digit);
    }
    to[14] = (char)('0' + (10 - sum % 10) % 10);
    to[15] = '\0';
}

static uint8_t chip(const char *model)
{
    return strstr(model, "9160") != NULL   ? 1
           : strstr(model, "9161") != NULL ? 4
           : strstr(model, "9131") != NULL ? 5
                                           : 6;
}

bool nrf91_identity(struct nrf91_identity *modem, const char *firmware)
{
    struct identity *who = &modem->who;
    uint8_t digest[CRYPTO_SHA256];
    struct vault_entry entry;
    sha256(port_hardware_id(), strlen(port_hardware_id()), digest);
    if (!read_uuid(port_hardware_id(), who->uuid)) {
        memcpy(who->uuid, digest, sizeof who->uuid);
        who->uuid[6] = (uint8_t)((who->uuid[6] & 0x0f) | 0x80); /* RFC 9562 5.8: version 8 */
        who->uuid[8] = (uint8_t)((who->uuid[8] & 0x3f) | 0x80);
    }
    print_uuid(who->uuid, modem->uuid);
    make_imei(digest, modem->imei);
    who->type = chip(port_model());
    sha256(firmware, strlen(firmware), digest);
    memcpy(who->firmware, digest, sizeof who->firmware);
    if (vault_find(NRF91_IDENTITY_TAG, NRF91_DEVICE_KEY, &entry)) {
        memcpy(&who->key, entry.bytes, sizeof who->key);
        return entry.size == sizeof who->key;
    }
    return crypto_make_key(&who->key) &&
           vault_put(NRF91_IDENTITY_TAG, NRF91_DEVICE_KEY, &who->key, sizeof who->key) == VAULT_OK;
}
