/* SPDX-License-Identifier: Apache-2.0 */
/* The board: QEMU's ast1030-evb (Aspeed AST1030, Cortex-M4, 768 KiB of RAM) with a NOR flash of 1 MiB (w25q80bl).
 *
 *     RAM    0x00000  bootloader, whole: code, data, heap, stack
 *            0x2ff00  what the bootloader hands over (struct handover)
 *            0x30000  application: its image as it lies in flash, header and all; then its data, heap, stack
 *     NOR    0x00000  records (store.h)
 *            0x10000  slot 0
 *            0x50000  slot 1
 *            0xff000  modelled fuses (fuses.c) */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

enum { RAM_SIZE = 0xc0000 };
enum { HANDOVER = 0x2ff00 };
enum { APPLICATION = 0x30000 };
enum { NOR_STORE = 0x00000, NOR_SLOT0 = 0x10000, NOR_SLOT1 = 0x50000, NOR_FUSES = 0xff000 };

/* Left in RAM by the bootloader for the application. */
struct handover {
    uint32_t magic;
    char version[16];
};
#define HANDOVER_MAGIC 0x52444230u /* "0BDR" */

/* nor.c. Programs cross pages, erases are of whole sectors of 4 KiB. */
void nor_open(void);
void nor_read(uint32_t address, void *to, size_t size);
void nor_program(uint32_t address, const void *from, size_t size);
void nor_erase(uint32_t address, size_t size);

/* fuses.c. False: this part was never given an identity. */
bool fuses_open(void);

/* uart.c */
/* Sending works from here on; what comes in waits in the hardware. */
void uart_open(void);
void uart_listen(void);
/* Sleep until bytes came; returns how many. */
size_t uart_read(uint8_t *to, size_t size);

/* startup.c: the first two words of a program in RAM say where its stack ends and where it starts. */
void start_program(uintptr_t vectors) __attribute__((noreturn));

/* Each program's own. */
void program(void) __attribute__((noreturn));

#endif
