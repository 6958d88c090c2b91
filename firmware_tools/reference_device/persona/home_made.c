/* SPDX-License-Identifier: Apache-2.0 */
/* The shell that a firmware engineer wrote on a Friday, over the same key, chain and locks as the provisioning group:
 *
 *     id                       id=E8F1-7C0A model=widget fw=1.0.0 sha=64 hex digits
 *     state                    state=blank|keyed|provisioned|locked, leaf=64 hex digits or none
 *     csr                      a CSR in PEM; the first one makes the key
 *     cert begin SIZE SHA      room for a chain in DER, of which that is the digest
 *     cert add OFFSET HEX      a piece of it; the last one checks and stores it
 *     cert show                the chain in hex, 32 bytes a line
 *     sign HEX                 sig=hex over the domain, 32 bytes and the leaf's digest
 *     lock debug|cert          for good
 *     locks                    locks=debug,cert or none
 *     reboot
 *
 * The answer ends with `ok`, or with `error N` of enum provisioning_rc. No echo, a bare `> ` as prompt, lines end with a
 * single LF, and it tells its temperature whenever it likes. */
#include <stdlib.h>
#include <string.h>

#include "../core/credentials.h"
#include "../core/crypto.h"
#include "../core/server.h"
#include "../core/image.h"
#include "../core/port.h"
#include "at_arguments.h"
#include "base64.h"
#include "console.h"
#include "personas.h"

enum { LINE = 300, PIECE = 128, SHOWN = 32, PEM_WIDTH = 64, WORDS = 4 };

static struct console console;
static unsigned commands;

static void say(const char *text)
{
    console_print(text);
    console_print("\n");
}

static void print_hex(const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        const char pair[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        console_print_sized(pair, sizeof pair);
    }
}

static bool read_number(const char *text, size_t *number)
{
    *number = 0;
    if (strlen(text) > 6 || *text == '\0' || strspn(text, "0123456789") != strlen(text)) {
        return false;
    }
    for (; *text != '\0'; text++) {
        *number = *number * 10 + (size_t)(*text - '0');
    }
    return true;
}

static bool read_hex(const char *text, uint8_t *to, size_t room, size_t *size)
{
    *size = strlen(text) / 2;
    return strlen(text) % 2 == 0 && *size <= room && at_hex(text, strlen(text), to);
}

/* --- commands: each returns a number of enum provisioning_rc --- */

static enum provisioning_rc say_id(void)
{
    console_print("id=");
    console_print(port_hardware_id());
    console_print(" model=");
    console_print(port_model());
    console_print(" fw=");
    console_print(image_in_slot(0)->version);
    console_print(" sha=");
    print_hex(image_in_slot(0)->hash, CRYPTO_SHA256);
    say("");
    return PROVISIONING_OK;
}

static enum provisioning_rc say_state(void)
{
    static const char *const names[] = {"blank", "keyed", "provisioned", "locked"};
    uint8_t leaf[CRYPTO_SHA256];
    enum credentials_state state = credentials_state();
    console_print("state=");
    console_print(names[state]);
    console_print(", leaf=");
    if (state < STATE_PROVISIONED) {
        say("none");
        return PROVISIONING_OK;
    }
    if (!credentials_leaf_digest(leaf)) {
        return PROVISIONING_STORAGE;
    }
    print_hex(leaf, sizeof leaf);
    say("");
    return PROVISIONING_OK;
}

static enum provisioning_rc say_csr(void)
{
    const uint8_t *der;
    size_t size;
    enum provisioning_rc rc = credentials_csr(&der, &size);
    if (rc != PROVISIONING_OK) {
        return rc;
    }
    char text[BASE64_SIZE(CRYPTO_CSR_MAX)];
    base64_encode(der, size, text);
    say("-----BEGIN CERTIFICATE REQUEST-----");
    for (size_t at = 0; at < BASE64_SIZE(size); at += PEM_WIDTH) {
        size_t now = BASE64_SIZE(size) - at < PEM_WIDTH ? BASE64_SIZE(size) - at : PEM_WIDTH;
        console_print_sized(text + at, now);
        say("");
    }
    say("-----END CERTIFICATE REQUEST-----");
    return PROVISIONING_OK;
}

static enum provisioning_rc cert_begin(const char *size_text, const char *digest_text)
{
    uint8_t digest[CRYPTO_SHA256];
    size_t size;
    size_t digits;
    if (!read_number(size_text, &size) || size == 0 || !read_hex(digest_text, digest, sizeof digest, &digits) ||
        digits != sizeof digest) {
        return PROVISIONING_BAD_REQUEST;
    }
    return credentials_chain_begin(size, digest);
}

static enum provisioning_rc cert_add(const char *offset_text, const char *text)
{
    uint8_t piece[PIECE];
    size_t offset;
    size_t size;
    size_t next = 0;
    if (!read_number(offset_text, &offset) || !read_hex(text, piece, sizeof piece, &size) || size == 0) {
        return PROVISIONING_BAD_REQUEST;
    }
    enum provisioning_rc rc = credentials_chain_add(offset, piece, size, &next);
    if (rc == PROVISIONING_OK) {
        console_print("have ");
        console_print_number((uint32_t)next);
        say("");
    }
    return rc;
}

static enum provisioning_rc cert_show(void)
{
    size_t whole = credentials_chain_size();
    for (size_t at = 0; at < whole; at += SHOWN) {
        uint8_t piece[SHOWN];
        size_t now = whole - at < SHOWN ? whole - at : SHOWN;
        if (!credentials_chain_read(at, piece, now)) {
            return PROVISIONING_STORAGE;
        }
        print_hex(piece, now);
        say("");
    }
    return whole == 0 ? PROVISIONING_WRONG_STATE : PROVISIONING_OK;
}

static enum provisioning_rc sign(const char *text)
{
    uint8_t nonce[CREDENTIALS_NONCE];
    uint8_t signature[CRYPTO_SIGNATURE_MAX];
    size_t size;
    if (!read_hex(text, nonce, sizeof nonce, &size) || size != sizeof nonce) {
        return PROVISIONING_BAD_REQUEST;
    }
    enum provisioning_rc rc = credentials_prove(nonce, signature, &size);
    if (rc == PROVISIONING_OK) {
        console_print("sig=");
        print_hex(signature, size);
        say("");
    }
    return rc;
}

static enum provisioning_rc close_lock(const char *name)
{
    if (strcmp(name, "debug") == 0) {
        return credentials_lock(LOCK_DEBUG);
    }
    return strcmp(name, "cert") == 0 ? credentials_lock(LOCK_CREDENTIALS) : PROVISIONING_BAD_REQUEST;
}

static enum provisioning_rc say_locks(void)
{
    unsigned locks = credentials_locks();
    bool both = locks == (LOCK_DEBUG | LOCK_CREDENTIALS);
    console_print("locks=");
    console_print((locks & LOCK_DEBUG) != 0 ? "debug" : "");
    console_print(both ? "," : "");
    console_print((locks & LOCK_CREDENTIALS) != 0 ? "cert" : "");
    say(locks == 0 ? "none" : "");
    return PROVISIONING_OK;
}

/* `words` has WORDS entries, the missing ones empty. */
static enum provisioning_rc perform(const char *words[WORDS])
{
    const char *verb = words[0];
    if (strcmp(verb, "id") == 0) {
        return say_id();
    }
    if (strcmp(verb, "state") == 0) {
        return say_state();
    }
    if (strcmp(verb, "csr") == 0) {
        return say_csr();
    }
    if (strcmp(verb, "cert") == 0 && strcmp(words[1], "begin") == 0) {
        return cert_begin(words[2], words[3]);
    }
    if (strcmp(verb, "cert") == 0 && strcmp(words[1], "add") == 0) {
        return cert_add(words[2], words[3]);
    }
    if (strcmp(verb, "cert") == 0 && strcmp(words[1], "show") == 0) {
        return cert_show();
    }
    if (strcmp(verb, "sign") == 0) {
        return sign(words[1]);
    }
    if (strcmp(verb, "lock") == 0) {
        return close_lock(words[1]);
    }
    if (strcmp(verb, "locks") == 0) {
        return say_locks();
    }
    if (strcmp(verb, "reboot") == 0) {
        server_reset_later();
        return PROVISIONING_OK;
    }
    return PROVISIONING_UNKNOWN;
}

static void answer(enum provisioning_rc rc)
{
    commands += 1;
    if (commands % 3 == 0) {
        say("* temp 23.4 C");
    }
    if (rc == PROVISIONING_OK) {
        say("ok");
    } else {
        console_print("error ");
        console_print_number(rc);
        say("");
    }
}

static void line(char *text, size_t size)
{
    const char *words[WORDS] = {"", "", "", ""};
    (void)size;
    size_t count = 0;
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        if (count < WORDS) {
            words[count] = word;
        }
        count += 1;
    }
    if (count > 0) {
        answer(count > WORDS ? PROVISIONING_BAD_REQUEST : perform(words));
    }
}

static void too_long(void)
{
    answer(PROVISIONING_TOO_LARGE);
}

static bool boot(void)
{
    static const struct console shell = {.line = line, .too_long = too_long, .prompt = "> ", .limit = LINE};
    commands = 0;
    port_log("widget boot, all good");
    console = shell;
    console_open(&console);
    return true;
}

const struct persona persona_home_made = {"home-made", boot, console_receive};
