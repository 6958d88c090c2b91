/* SPDX-License-Identifier: Apache-2.0 */
/* What a board gives the core: flash, a console UART, randomness, its identity, a reset.
 *
 * A new board implements this header and calls device_boot() once after power-on and device_receive() with whatever its
 * UART received. The core calls nothing else of the platform: no heap, no clock, no threads.
 */
#ifndef PORT_H
#define PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Flash. Erased bytes read 0xff, programming a byte twice without an erase between is not done. Offsets and sizes
 * that the core programs are multiples of PORT_FLASH_ALIGN; what it erases are multiples of PORT_FLASH_SECTOR. A
 * power cut in the middle of a program or an erase may leave any part of it done. */
enum { PORT_FLASH_ALIGN = 8 };
enum { PORT_FLASH_SECTOR = 4096 };

enum port_flash_area {
    PORT_FLASH_STORE, /* two halves of STORE_HALF bytes: see store.h */
    PORT_FLASH_SLOT0, /* two firmware slots of IMAGE_SLOT bytes: see image.h */
    PORT_FLASH_SLOT1,
};

bool port_flash_read(enum port_flash_area area, uint32_t offset, void *to, size_t size);
bool port_flash_program(enum port_flash_area area, uint32_t offset, const void *from, size_t size);
bool port_flash_erase(enum port_flash_area area, uint32_t offset, size_t size);

/* True randomness, as it comes from the board's generator. False: there is none now, and no key may be made. */
bool port_entropy(uint8_t *to, size_t size);

/* Console UART, towards the station. May collect until port_uart_flush(). */
void port_uart_write(const uint8_t *bytes, size_t size);
void port_uart_flush(void);

/* Requests of full size that may be on the way at once, 1 or more: the one that the core works on, and what the UART's
 * driver keeps meanwhile. */
unsigned port_uart_requests(void);

/* A line of log on the same console, as boards write it while they boot. */
void port_log(const char *text);

/* Identity, fixed for the life of the board: 1 to 64 characters from [0-9A-Za-z._:-]. */
const char *port_hardware_id(void);
/* Product model the firmware is built for: 1 to 32 printable ASCII characters. */
const char *port_model(void);

/* The key that images have to be signed with: an uncompressed point (SEC 1, 2.3.3) of 65 bytes, from where nobody can
 * change it. NULL: this board asks for no signature. */
const uint8_t *port_image_key(void);
/* Version of the bootloader that started us, or that we are. NULL: there is none, and the application chooses among
 * its images itself. */
const char *port_bootloader(void);

/* Close the debug port for good, as far as the hardware does this by itself (fuses, read-out protection). Called
 * at each boot while the lock is set, and when it is set. False: the hardware refused. */
bool port_close_debug(void);
/* Is the debug port closed? What the hardware says, not what was asked for. */
bool port_debug_is_closed(void);

/* Start again from the reset vector. May return; then the port has to boot again before it hands over more bytes. */
void port_reset(void);

#endif
