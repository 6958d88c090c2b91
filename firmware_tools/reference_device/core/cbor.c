/* SPDX-License-Identifier: Apache-2.0 */
#include "cbor.h"

#include <string.h>

enum major { UNSIGNED = 0, NEGATIVE = 1, BYTES = 2, TEXT = 3, ARRAY = 4, MAP = 5, TAG = 6, SIMPLE = 7 };

enum { INDEFINITE = 31 };
enum { SIMPLE_FALSE = 20, SIMPLE_TRUE = 21 };
enum { MAX_DEPTH = 8 }; /* of what is skipped; a fixed array instead of recursion keeps the stack bounded */

struct reader {
    const uint8_t *at;
    size_t left;
};

struct head {
    uint8_t major;
    uint8_t additional;
    uint64_t number;
};

static bool read_head(struct reader *from, struct head *head)
{
    if (from->left == 0) {
        return false;
    }
    head->major = from->at[0] >> 5;
    head->additional = from->at[0] & 0x1f;
    from->at += 1;
    from->left -= 1;
    if (head->additional < 24 || head->additional == INDEFINITE) {
        head->number = head->additional;
        return true;
    }
    if (head->additional > 27) {
        return false;
    }
    size_t width = (size_t)1 << (head->additional - 24);
    if (from->left < width) {
        return false;
    }
    head->number = 0;
    for (size_t i = 0; i < width; i++) {
        head->number = head->number << 8 | from->at[i];
    }
    from->at += width;
    from->left -= width;
    return true;
}

/* Content of a string of definite length. */
static bool read_content(struct reader *from, const struct head *head, const uint8_t **bytes, size_t *size)
{
    if (head->additional == INDEFINITE || head->number > from->left) {
        return false;
    }
    *bytes = from->at;
    *size = (size_t)head->number;
    from->at += *size;
    from->left -= *size;
    return true;
}

static bool at_break(const struct reader *from)
{
    return from->left > 0 && from->at[0] == 0xff;
}

static bool skip(struct reader *from)
{
    uint64_t open[MAX_DEPTH]; /* items still to come at each level; UINT64_MAX: until a break */
    size_t depth = 0;
    do {
        if (depth > 0 && open[depth - 1] == UINT64_MAX && at_break(from)) {
            from->at += 1;
            from->left -= 1;
            depth -= 1;
        } else {
            struct head head;
            if (depth > 0 && open[depth - 1] != UINT64_MAX) {
                open[depth - 1] -= 1;
            }
            if (!read_head(from, &head)) {
                return false;
            }
            bool endless = head.additional == INDEFINITE;
            const uint8_t *bytes;
            size_t size;
            switch (head.major) {
            case UNSIGNED:
            case NEGATIVE:
            case SIMPLE:
                if (endless) {
                    return false;
                }
                break;
            case BYTES:
            case TEXT:
                if (!read_content(from, &head, &bytes, &size)) {
                    return false;
                }
                break;
            case TAG:
                if (endless || depth == MAX_DEPTH) {
                    return false;
                }
                open[depth++] = 1;
                break;
            default: /* ARRAY, MAP */
                /* An item takes a byte at least: what claims more than is left is malformed, and can't overflow. */
                if (depth == MAX_DEPTH || (!endless && head.number > from->left)) {
                    return false;
                }
                open[depth++] = endless ? UINT64_MAX : head.major == MAP ? head.number * 2 : head.number;
                break;
            }
        }
        while (depth > 0 && open[depth - 1] == 0) {
            depth -= 1;
        }
    } while (depth > 0);
    return true;
}

/* Text is UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. An echo must not send what
 * is not. */
static bool is_utf8(const uint8_t *at, size_t left)
{
    while (left > 0) {
        uint8_t first = at[0];
        size_t more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || more >= left) {
            return false;
        }
        for (size_t i = 1; i <= more; i++) {
            if ((at[i] & 0xc0) != 0x80) {
                return false;
            }
        }
        if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f) || (first == 0xf0 && at[1] < 0x90) ||
            (first == 0xf4 && at[1] > 0x8f)) {
            return false;
        }
        at += 1 + more;
        left -= 1 + more;
    }
    return true;
}

static bool read_value(struct reader *from, struct cbor_field *field)
{
    struct head head;
    if (field->present || !read_head(from, &head)) {
        return false;
    }
    field->present = true;
    switch (field->type) {
    case CBOR_UINT:
        field->number = head.number;
        return head.major == UNSIGNED && head.additional != INDEFINITE;
    case CBOR_BOOL:
        field->number = head.additional == SIMPLE_TRUE;
        return head.major == SIMPLE && (head.additional == SIMPLE_TRUE || head.additional == SIMPLE_FALSE);
    case CBOR_BYTES:
        return head.major == BYTES && read_content(from, &head, &field->bytes, &field->size);
    case CBOR_TEXT:
        return head.major == TEXT && read_content(from, &head, &field->bytes, &field->size) &&
               is_utf8(field->bytes, field->size);
    default:
        return false;
    }
}

bool cbor_read_map(const uint8_t *bytes, size_t size, struct cbor_field *fields, size_t count)
{
    struct reader from = {bytes, size};
    struct head map;
    if (!read_head(&from, &map) || map.major != MAP) {
        return false;
    }
    bool endless = map.additional == INDEFINITE;
    for (uint64_t pair = 0; endless ? !at_break(&from) : pair < map.number; pair++) {
        struct head head;
        const uint8_t *key;
        size_t key_size;
        if (!read_head(&from, &head) || head.major != TEXT || !read_content(&from, &head, &key, &key_size)) {
            return false;
        }
        struct cbor_field *known = NULL;
        for (size_t i = 0; i < count && known == NULL; i++) {
            if (strlen(fields[i].key) == key_size && memcmp(fields[i].key, key, key_size) == 0) {
                known = &fields[i];
            }
        }
        if (known == NULL ? !skip(&from) : !read_value(&from, known)) {
            return false;
        }
    }
    return from.left == (endless ? 1u : 0u);
}

static uint8_t *space(struct cbor_writer *to, size_t size)
{
    if (to->overflow || size > to->room - to->size) {
        to->overflow = true;
        return NULL;
    }
    uint8_t *here = to->bytes + to->size;
    to->size += size;
    return here;
}

static void write_head(struct cbor_writer *to, uint8_t major, uint64_t number)
{
    size_t width = number < 24 ? 0 : number <= 0xff ? 1 : number <= 0xffff ? 2 : number <= 0xffffffff ? 4 : 8;
    uint8_t *here = space(to, 1 + width);
    if (here == NULL) {
        return;
    }
    uint8_t additional = width == 0 ? (uint8_t)number : width == 1 ? 24 : width == 2 ? 25 : width == 4 ? 26 : 27;
    here[0] = (uint8_t)(major << 5 | additional);
    for (size_t i = 0; i < width; i++) {
        here[width - i] = (uint8_t)(number >> (8 * i));
    }
}

void cbor_map(struct cbor_writer *to, size_t pairs)
{
    write_head(to, MAP, pairs);
}

void cbor_array(struct cbor_writer *to, size_t items)
{
    write_head(to, ARRAY, items);
}

void cbor_uint(struct cbor_writer *to, uint64_t number)
{
    write_head(to, UNSIGNED, number);
}

void cbor_bool(struct cbor_writer *to, bool value)
{
    write_head(to, SIMPLE, value ? SIMPLE_TRUE : SIMPLE_FALSE);
}

void cbor_text_sized(struct cbor_writer *to, const uint8_t *text, size_t size)
{
    write_head(to, TEXT, size);
    uint8_t *here = space(to, size);
    if (here != NULL && size > 0) {
        memcpy(here, text, size);
    }
}

void cbor_text(struct cbor_writer *to, const char *text)
{
    cbor_text_sized(to, (const uint8_t *)text, strlen(text));
}

uint8_t *cbor_bytes_space(struct cbor_writer *to, size_t size)
{
    write_head(to, BYTES, size);
    return space(to, size);
}

void cbor_bytes(struct cbor_writer *to, const uint8_t *bytes, size_t size)
{
    uint8_t *here = cbor_bytes_space(to, size);
    if (here != NULL && size > 0) {
        memcpy(here, bytes, size);
    }
}
