/* SPDX-License-Identifier: Apache-2.0 */
/* The application's program. */
#include "../../core/device.h"
#include "../../core/port.h"
#include "board.h"

const char *port_bootloader(void)
{
    const struct handover *handover = (const struct handover *)(uintptr_t)HANDOVER;
    return handover->magic == HANDOVER_MAGIC ? handover->version : "?";
}

void program(void)
{
    uart_open();
    nor_open();
    bool works = fuses_open() && device_boot();
    uart_listen();
    for (;;) {
        uint8_t bytes[256];
        size_t got = uart_read(bytes, sizeof bytes);
        if (works) {
            device_receive(bytes, got);
        }
    }
}
