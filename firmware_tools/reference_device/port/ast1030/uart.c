/* SPDX-License-Identifier: Apache-2.0 */
/* The console: UART5, a 16550 with FIFOs. Bytes are taken by interrupt into a ring; a full ring leaves them in the FIFO,
 * where flow control begins. */
#include "../../core/port.h"
#include "board.h"

#define UART(number) REGISTER(0x7e784000 + 4 * (number))
#define NVIC_ENABLE REGISTER(0xe000e100)
enum { DATA = 0, DIVISOR_LOW = 0, INTERRUPTS = 1, DIVISOR_HIGH = 1, FIFO = 2, LINE = 3, MODEM = 4, STATUS = 5 };
enum { RECEIVED = 1, MAY_SEND = 0x20 };
enum { LOOP = 0x10 };
enum { FIFO_SIZE = 16 };
enum { RING = 16384, FULL_REQUEST = 2816 }; /* a request of full size in lines of base64 */

static uint8_t ring[RING];
static volatile size_t taken; /* bytes ever put into the ring */
static volatile size_t given; /* bytes ever read from it */
static size_t send_at_once = 1;

void uart_interrupt(void);

void uart_open(void)
{
    UART(LINE) = 0x80;
    UART(DIVISOR_LOW) = 1; /* 115200 baud */
    UART(DIVISOR_HIGH) = 0;
    UART(LINE) = 0x03; /* 8N1 */
}

static void take(void)
{
    while ((UART(STATUS) & RECEIVED) != 0) {
        if (taken - given == RING) {
            UART(INTERRUPTS) = 0; /* until there is room */
            return;
        }
        ring[taken % RING] = (uint8_t)UART(DATA);
        taken = taken + 1;
    }
}

void uart_interrupt(void)
{
    take();
}

/* A request that comes while the board starts is not lost: switching the FIFO on empties the receiver, so the byte in it
 * is taken first, with the wire looped back meanwhile, or QEMU sends the next byte into the gap. A FIFO that is on already
 * is not emptied. QEMU goes on sending once the receiver was read. */
void uart_listen(void)
{
    UART(MODEM) = LOOP;
    if ((UART(STATUS) & RECEIVED) != 0) {
        ring[taken % RING] = (uint8_t)UART(DATA);
        taken = taken + 1;
    }
    UART(FIFO) = 0xc1; /* an interrupt at 14 bytes or a pause: at fewer, QEMU carries a byte at a time */
    UART(MODEM) = 0;
    send_at_once = FIFO_SIZE;
    if ((UART(STATUS) & RECEIVED) == 0) {
        (void)UART(DATA);
    }
    UART(INTERRUPTS) = 1;
    NVIC_ENABLE = 1u << 8;
}

size_t uart_read(uint8_t *to, size_t size)
{
    __asm volatile("cpsid i" : : : "memory");
    take(); /* what is less than the trigger would wait for a pause */
    if (taken == given) {
        __asm volatile("wfi" : : : "memory"); /* wakes on an interrupt that waits, too */
    }
    __asm volatile("cpsie i\n isb" : : : "memory");
    size_t count = taken - given;
    count = count < size ? count : size;
    for (size_t i = 0; i < count; i++) {
        to[i] = ring[(given + i) % RING];
    }
    given = given + count;
    UART(INTERRUPTS) = 1;
    return count;
}

void port_uart_write(const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        while ((UART(STATUS) & MAY_SEND) == 0) {
        }
        for (size_t room = send_at_once; room > 0 && size > 0; room--, size--) {
            UART(DATA) = *bytes++;
        }
    }
}

void port_uart_flush(void)
{
}

unsigned port_uart_requests(void)
{
    return 1 + RING / FULL_REQUEST;
}

void port_log(const char *text)
{
    size_t size = 0;
    while (text[size] != '\0') {
        size++;
    }
    port_uart_write((const uint8_t *)text, size);
    port_uart_write((const uint8_t *)"\r\n", 2);
}
