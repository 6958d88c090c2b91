/* SPDX-License-Identifier: Apache-2.0 */
/* SMP over a console: messages in lines of base64 between whatever else a console carries.
 *
 *     0x06 0x09  base64( length(2, big endian)  message  CRC-16/XMODEM(2) ) ... \n
 *     0x04 0x14  base64( ... more of the same ... ) \n
 *
 * `length` counts message and CRC. Received bytes are decoded as they come, so a line may have any length; the buffer
 * bounds the message. Whatever does not fit this form is dropped without an answer.
 *
 * Or raw, for a UART that carries nothing else: one message after the other as they are, with no CRC; the length stands
 * in SMP's header (Zephyr's CONFIG_UART_MCUMGR_RAW_PROTOCOL). A byte that was lost shows only as a message that never
 * ends, or as a header that makes no sense. Both are over once the wire has been silent for a while: no header is looked
 * for in the bytes between, since image data may look like one. */
#ifndef FRAMING_H
#define FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAMING_MESSAGE_MAX = 2048 };
enum { FRAMING_OVERHEAD = 4 };  /* length and CRC share the buffer with the message */
enum { FRAMING_SILENCE_MS = 200 }; /* between two bytes of one raw message there is never so much */
enum { FRAMING_LINE_MAX = 127 }; /* of what is sent, as the specification has it: 2 + 124 + newline */

struct framing {
    enum { FRAMING_OUTSIDE, FRAMING_LINE, FRAMING_BETWEEN, FRAMING_LOST } state; /* LOST: raw, waiting for silence */
    uint8_t previous;     /* the byte before, to see delimiters */
    uint8_t group_filled; /* base64 characters of the open group */
    uint8_t group_padding;
    uint32_t group;
    size_t filled;
    size_t wire; /* bytes that the message took on the wire so far */
    uint8_t buffer[FRAMING_MESSAGE_MAX + FRAMING_OVERHEAD];
};

void framing_reset(struct framing *from);
/* Take one byte. True: `*message` of `*size` bytes is complete; it stays until the next byte is taken. */
bool framing_take(struct framing *from, uint8_t byte, const uint8_t **message, size_t *size);
/* Send a message through port_uart_write(). Returns the bytes that it took on the wire. */
size_t framing_send(const uint8_t *message, size_t size, size_t line_max);

/* The same two for raw messages. */
bool framing_take_raw(struct framing *from, uint8_t byte, const uint8_t **message, size_t *size);
size_t framing_send_raw(const uint8_t *message, size_t size);
/* Would a silence of FRAMING_SILENCE_MS mean something: has a raw message begun and not ended, or was it lost? */
bool framing_awaits_silence(const struct framing *from);
/* There was one: the next byte begins a message. */
void framing_silence(struct framing *from);
uint16_t framing_crc16(uint16_t crc, const uint8_t *bytes, size_t size);

#endif
