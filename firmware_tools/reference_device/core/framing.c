/* SPDX-License-Identifier: Apache-2.0 */
#include "framing.h"

#include <string.h>

#include "port.h"
#include "smp.h"

uint16_t framing_crc16(uint16_t crc, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)(bytes[i] << 8));
        for (int bit = 0; bit < 8; bit++) {
            crc = (uint16_t)((crc & 0x8000) != 0 ? (uint16_t)(crc << 1) ^ 0x1021 : crc << 1);
        }
    }
    return crc;
}

void framing_reset(struct framing *from)
{
    memset(from, 0, sizeof *from);
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool take_character(struct framing *from, uint8_t byte)
{
    if (byte == '=') {
        if (from->group_filled < 2) {
            return false;
        }
        from->group_padding += 1;
        from->group <<= 6;
    } else {
        int value = base64_value(byte);
        if (value < 0 || from->group_padding > 0) {
            return false;
        }
        from->group = from->group << 6 | (uint32_t)value;
    }
    from->group_filled += 1;
    if (from->group_filled < 4) {
        return true;
    }
    size_t count = 3u - from->group_padding;
    if (count > sizeof from->buffer - from->filled) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        from->buffer[from->filled++] = (uint8_t)(from->group >> (16 - 8 * i));
    }
    from->group = 0;
    from->group_filled = 0;
    from->group_padding = 0;
    return true;
}

/* A line has ended: is the message complete, wanting more, or broken? */
static bool end_line(struct framing *from, const uint8_t **message, size_t *size)
{
    from->state = FRAMING_OUTSIDE;
    if (from->group_filled != 0 || from->filled < 2) {
        return false;
    }
    size_t length = (size_t)from->buffer[0] << 8 | from->buffer[1];
    size_t have = from->filled - 2;
    if (length < 2 || length > sizeof from->buffer - 2 || have > length) {
        return false;
    }
    if (have < length) {
        from->state = FRAMING_BETWEEN;
        return false;
    }
    const uint8_t *crc = from->buffer + from->filled - 2;
    if (framing_crc16(0, from->buffer + 2, length - 2) != (uint16_t)(crc[0] << 8 | crc[1])) {
        return false;
    }
    *message = from->buffer + 2;
    *size = length - 2;
    return true;
}

static void begin_line(struct framing *from)
{
    from->state = FRAMING_LINE;
    from->group = 0;
    from->group_filled = 0;
    from->group_padding = 0;
}

bool framing_take(struct framing *from, uint8_t byte, const uint8_t **message, size_t *size)
{
    uint8_t previous = from->previous;
    from->previous = byte;
    from->wire += 1;
    /* Delimiters are no base64: they mean the same wherever they stand, so one lost newline costs one message only. */
    if (previous == 0x06 && byte == 0x09) {
        from->filled = 0;
        from->wire = 2;
        begin_line(from);
        return false;
    }
    if (previous == 0x04 && byte == 0x14) {
        if (from->state == FRAMING_BETWEEN) {
            begin_line(from);
        } else {
            from->state = FRAMING_OUTSIDE;
        }
        return false;
    }
    if (from->state != FRAMING_LINE || byte == '\r') {
        return false;
    }
    if (byte == '\n') {
        return end_line(from, message, size);
    }
    if (!take_character(from, byte)) {
        from->state = FRAMING_OUTSIDE;
    }
    return false;
}

/* What is being sent: `pending` collects three bytes for four characters, `line` the characters of one line. */
struct sender {
    uint8_t pending[3];
    size_t pending_size;
    uint8_t line[FRAMING_LINE_MAX];
    size_t line_size;
    size_t line_characters; /* of this line so far; more than line_size once a long line is sent in pieces */
    size_t line_max;
    size_t wire;
};

static void put(struct sender *to, uint8_t byte)
{
    if (to->line_size == sizeof to->line) {
        port_uart_write(to->line, to->line_size);
        to->line_size = 0;
    }
    to->line[to->line_size++] = byte;
    to->line_characters += 1;
    to->wire += 1;
}

static void end_sent_line(struct sender *to)
{
    put(to, '\n');
    port_uart_write(to->line, to->line_size);
    to->line_size = 0;
    to->line_characters = 0;
}

static void encode_group(struct sender *to)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (to->line_characters + 5 > to->line_max) {
        end_sent_line(to);
        put(to, 0x04);
        put(to, 0x14);
    }
    uint32_t group = 0;
    for (size_t i = 0; i < 3; i++) {
        group = group << 8 | (i < to->pending_size ? to->pending[i] : 0u);
    }
    for (size_t i = 0; i < 4; i++) {
        put(to, i <= to->pending_size ? (uint8_t)alphabet[group >> (18 - 6 * i) & 0x3f] : (uint8_t)'=');
    }
    to->pending_size = 0;
}

static void send_bytes(struct sender *to, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        to->pending[to->pending_size++] = bytes[i];
        if (to->pending_size == 3) {
            encode_group(to);
        }
    }
}

size_t framing_send(const uint8_t *message, size_t size, size_t line_max)
{
    struct sender to = {.line_max = line_max};
    size_t length = size + 2;
    uint16_t crc = framing_crc16(0, message, size);
    const uint8_t head[2] = {(uint8_t)(length >> 8), (uint8_t)length};
    const uint8_t tail[2] = {(uint8_t)(crc >> 8), (uint8_t)crc};
    put(&to, 0x06);
    put(&to, 0x09);
    send_bytes(&to, head, sizeof head);
    send_bytes(&to, message, size);
    send_bytes(&to, tail, sizeof tail);
    if (to.pending_size > 0) {
        encode_group(&to);
    }
    end_sent_line(&to);
    port_uart_flush();
    return to.wire;
}

bool framing_take_raw(struct framing *from, uint8_t byte, const uint8_t **message, size_t *size)
{
    if (from->state == FRAMING_LOST) {
        return false;
    }
    from->buffer[from->filled++] = byte;
    if (from->filled < SMP_HEADER) {
        return false;
    }
    size_t whole = SMP_HEADER + ((size_t)from->buffer[2] << 8 | from->buffer[3]);
    uint8_t op = from->buffer[0] & 7;
    if (whole > FRAMING_MESSAGE_MAX || (op != SMP_READ && op != SMP_WRITE)) {
        from->state = FRAMING_LOST;
        return false;
    }
    if (from->filled < whole) {
        return false;
    }
    from->filled = 0;
    from->wire = whole;
    *message = from->buffer;
    *size = whole;
    return true;
}

size_t framing_send_raw(const uint8_t *message, size_t size)
{
    port_uart_write(message, size);
    port_uart_flush();
    return size;
}

bool framing_awaits_silence(const struct framing *from)
{
    return from->filled > 0 || from->state == FRAMING_LOST;
}

void framing_silence(struct framing *from)
{
    framing_reset(from);
}
