/* SPDX-License-Identifier: Apache-2.0 */
/* The TLS credentials of Zephyr's shell: what is too long for a line is collected in a buffer first. */
#include <string.h>

#include "../core/crypto.h"
#include "base64.h"
#include "vault.h"
#include "zephyr.h"

enum { ROOM = 4096, OUTPUT_WIDTH = 32 };

static struct {
    uint8_t bytes[ROOM + 1]; /* and a terminating zero */
    size_t size;
    size_t room;
    bool loads;
    bool is_loading;
} buffer;

static const struct {
    const char *name;  /* as lists have it */
    const char *title; /* as sentences have it */
    uint8_t type;
} types[] = {
    {"CA", "CA_CERT", ZEPHYR_CA},
    {"SERV", "SERVER_CERT", ZEPHYR_SERV},
    {"CLIENT", "SERVER_CERT", ZEPHYR_SERV},
    {"SELF", "SERVER_CERT", ZEPHYR_SERV},
    {"PK", "PRIVATE_KEY", ZEPHYR_PK},
    {"PSK", "PRE_SHARED_KEY", ZEPHYR_PSK},
    {"PSK_ID", "PRE_SHARED_KEY_ID", ZEPHYR_PSK_ID},
    {"PK_PSA", "PRIVATE_KEY_PSA", ZEPHYR_PK_PSA},
};
enum { TYPES = sizeof types / sizeof types[0] };

void zephyr_cred_boot(size_t room, bool loads)
{
    buffer.size = 0;
    buffer.room = room;
    buffer.loads = loads;
    buffer.is_loading = false;
}

static void clear(void)
{
    if (buffer.size > 0) {
        buffer.size = 0;
        zephyr_print("Credential buffer cleared.\r\n");
    }
}

static void say_no_room(void)
{
    zephyr_print("Not enough room in credential buffer for provided data. "
                 "Increase CONFIG_TLS_CREDENTIALS_SHELL_CRED_BUF_SIZE.\r\n");
    clear();
}

static void say_stored(size_t size)
{
    zephyr_print("Stored ");
    zephyr_print_number((uint32_t)size);
    zephyr_print(" bytes.\r\n");
}

static bool collect(const char *text)
{
    size_t size = strlen(text);
    if (buffer.size + size >= buffer.room) {
        say_no_room();
        return false;
    }
    memcpy(buffer.bytes + buffer.size, text, size);
    buffer.size += size;
    say_stored(size);
    return true;
}

bool zephyr_cred_is_loading(void)
{
    return buffer.is_loading;
}

void zephyr_cred_load(uint8_t byte)
{
    if (byte == ZEPHYR_CTRL_C) {
        buffer.is_loading = false;
        say_stored(buffer.size);
    } else if (buffer.size + 1 >= buffer.room) {
        buffer.is_loading = false;
        say_no_room();
    } else {
        buffer.bytes[buffer.size] = byte;
        buffer.size += 1;
    }
}

static bool is_word(const char *text, const char *word)
{
    for (; *text != '\0' && *word != '\0'; text++, word++) {
        char big = (char)(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
        if (big != *word) {
            return false;
        }
    }
    return *text == *word;
}

static size_t read_type(const char *text)
{
    for (size_t i = 0; i < TYPES; i++) {
        if (is_word(text, types[i].name) || is_word(text, types[i].title)) {
            return i;
        }
    }
    zephyr_print_line(text, " is not a valid credential type.", (char *)NULL);
    return TYPES;
}

static bool read_format(const char *text, bool *is_binary, bool *is_terminated)
{
    *is_binary = is_word(text, "BIN") || is_word(text, "BINT");
    *is_terminated = is_word(text, "BINT") || is_word(text, "STRT");
    if (*is_binary || *is_terminated || is_word(text, "STR")) {
        return true;
    }
    zephyr_print_line(text, " is not a valid storage format.", (char *)NULL);
    return false;
}

static void say_which(const char *before, uint32_t tag, const char *title, const char *after)
{
    zephyr_print(before);
    zephyr_print("sectag ");
    zephyr_print_number(tag);
    zephyr_print(" and type ");
    zephyr_print_line(title, after, (char *)NULL);
}

static void add(size_t count, char *words[])
{
    uint32_t tag;
    bool is_binary;
    bool is_terminated;
    struct vault_entry entry;
    size_t kind;
    if (!zephyr_read_tag(words[2], &tag) || (kind = read_type(words[3])) == TYPES ||
        !read_format(words[5], &is_binary, &is_terminated)) {
        return;
    }
    if (count > 6) {
        clear();
        if (!collect(words[6])) {
            return;
        }
    }
    if (buffer.size == 0) {
        zephyr_print("Please provide a credential to add.\r\n");
        return;
    }
    if (vault_find(tag, types[kind].type, &entry)) {
        say_which("TLS credential with ", tag, types[kind].title, " already exists.");
        return;
    }
    if (is_binary && !base64_decode((const char *)buffer.bytes, buffer.size, buffer.bytes, &buffer.size)) {
        zephyr_print("Could not decode input from base64, error: -22\r\n");
        return;
    }
    if (is_terminated) {
        buffer.bytes[buffer.size] = 0;
        buffer.size += 1;
    }
    if (vault_put(tag, types[kind].type, buffer.bytes, buffer.size) != VAULT_OK) {
        say_which("Failed to add TLS credential with ", tag, types[kind].title, ". Error: -12");
        return;
    }
    zephyr_print("Added TLS credential of type ");
    zephyr_print(types[kind].title);
    zephyr_print(", sectag ");
    zephyr_print_number(tag);
    zephyr_print(", and length ");
    zephyr_print_number((uint32_t)buffer.size);
    zephyr_print(" bytes.\r\n");
}

static void del(char *words[])
{
    uint32_t tag;
    size_t kind;
    if (!zephyr_read_tag(words[2], &tag) || (kind = read_type(words[3])) == TYPES) {
        return;
    }
    switch (vault_remove(tag, types[kind].type)) {
    case VAULT_OK:
        say_which("Deleted TLS credential with ", tag, types[kind].title, ".");
        return;
    case VAULT_NOT_FOUND:
        say_which("There is no TLS credential with ", tag, types[kind].title, ".");
        return;
    default:
        say_which("Deleting TLS credential with ", tag, types[kind].title, " failed with error: -5.");
    }
}

static void get(char *words[])
{
    uint32_t tag;
    bool is_binary;
    bool is_terminated;
    struct vault_entry entry;
    size_t kind;
    if (!zephyr_read_tag(words[2], &tag) || (kind = read_type(words[3])) == TYPES ||
        !read_format(words[4], &is_binary, &is_terminated)) {
        return;
    }
    if (!vault_find(tag, types[kind].type, &entry)) {
        say_which("There is no TLS credential with ", tag, types[kind].title, ".");
        return;
    }
    clear();
    size_t size = entry.size;
    if (size > buffer.room) {
        say_which("Not enough room in the credential buffer to retrieve credential with ", tag, types[kind].title,
                  ". Increase TLS_CREDENTIALS_SHELL_MAX_CRED_LEN.");
        return;
    }
    buffer.size = size; /* it goes through the buffer, which is therefore empty afterwards, and says so */
    if (is_terminated) {
        if (size == 0 || entry.bytes[size - 1] != 0) {
            zephyr_print("The stored credential isn't NULL-terminated, "
                         "but a NULL-terminated format was specified.\r\n");
            return;
        }
        size -= 1;
    }
    size_t width = is_binary ? OUTPUT_WIDTH / 4 * 3 : OUTPUT_WIDTH;
    for (size_t at = 0; at < size; at += width) {
        size_t now = size - at < width ? size - at : width;
        char text[OUTPUT_WIDTH];
        if (is_binary) {
            base64_encode(entry.bytes + at, now, text);
            zephyr_print_sized(text, BASE64_SIZE(now));
        } else {
            for (size_t i = 0; i < now; i++) {
                text[i] = (char)(entry.bytes[at + i] >= ' ' && entry.bytes[at + i] <= '~' ? entry.bytes[at + i] : '?');
            }
            zephyr_print_sized(text, now);
        }
        zephyr_print("\r\n");
    }
}

static void list_one(const struct vault_entry *entry, const char *name)
{
    uint8_t digest[CRYPTO_SHA256];
    char text[BASE64_SIZE(CRYPTO_SHA256)];
    crypto_sha256_begin();
    crypto_sha256_add(entry->bytes, entry->size);
    crypto_sha256_end(digest);
    base64_encode(digest, sizeof digest, text);
    zephyr_print_number(entry->tag);
    zephyr_print(",");
    zephyr_print(name);
    zephyr_print(",");
    zephyr_print_sized(text, sizeof text);
    zephyr_print(",0\r\n");
}

static void list(size_t count, char *words[])
{
    uint32_t tag = 0;
    size_t kind = TYPES;
    bool of_tag = count > 2 && !is_word(words[2], "ANY");
    bool of_type = count > 3 && !is_word(words[3], "ANY");
    if ((of_tag && !zephyr_read_tag(words[2], &tag)) || (of_type && (kind = read_type(words[3])) == TYPES)) {
        return;
    }
    uint32_t found = 0;
    struct vault_entry entry;
    for (size_t cursor = 0; vault_next(&cursor, &entry);) {
        if ((of_tag && entry.tag != tag) || (of_type && entry.type != types[kind].type)) {
            continue;
        }
        for (size_t i = 0; i < TYPES; i++) {
            if (types[i].type == entry.type) {
                list_one(&entry, types[i].name);
                found += 1;
                break;
            }
        }
    }
    zephyr_print_number(found);
    zephyr_print(" credentials found.\r\n");
}

static void buf(const char *word)
{
    if (strcmp(word, "clear") == 0) {
        buffer.size = 0;
        zephyr_print("Credential buffer cleared.\r\n");
    } else if (strcmp(word, "load") == 0 && buffer.loads) {
        clear();
        zephyr_print("Input credential, finish with CTRL+C.\r\n");
        buffer.is_loading = true;
    } else {
        (void)collect(word);
    }
}

void zephyr_cred(size_t count, char *words[])
{
    const char *verb = count > 1 ? words[1] : "";
    if (strcmp(verb, "buf") == 0 && count == 3) {
        buf(words[2]);
    } else if (strcmp(verb, "add") == 0 && count >= 6) {
        add(count, words);
        clear();
    } else if (strcmp(verb, "del") == 0 && count == 4) {
        del(words);
    } else if (strcmp(verb, "get") == 0 && count == 5) {
        get(words);
        clear();
    } else if (strcmp(verb, "list") == 0) {
        list(count, words);
    } else {
        zephyr_print_line("cred: wrong parameter count", (char *)NULL);
    }
}
