/* SPDX-License-Identifier: Apache-2.0 */
/* SPI NOR on the first chip select of the flash controller (FMC), in its user mode: what is written to the flash's window
 * goes out over SPI, what is read comes from there. */
#include "board.h"

#define FMC_CONFIGURATION REGISTER(0x7e620000)
#define FMC_CONTROL REGISTER(0x7e620010)
#define WINDOW 0x80000000u
#define WINDOW_BYTE (*(volatile uint8_t *)(uintptr_t)WINDOW)
#define WINDOW_WORD REGISTER(WINDOW)
enum { USER_MODE = 3, DESELECT = 4 };
enum { WRITE_ENABLED = 1 << 16 };

enum { PROGRAM = 0x02, READ = 0x03, READ_STATUS = 0x05, WRITE_ENABLE = 0x06, ERASE_4K = 0x20, ERASE_64K = 0xd8 };
enum { BUSY = 1 };
enum { PAGE = 256, SECTOR = 4096, BLOCK = 65536 };

void nor_open(void)
{
    FMC_CONFIGURATION |= WRITE_ENABLED; /* or the controller drops what is written */
}

static void begin(uint8_t command)
{
    FMC_CONTROL = USER_MODE;
    WINDOW_BYTE = command;
}

static void begin_at(uint8_t command, uint32_t address)
{
    begin(command);
    WINDOW_BYTE = (uint8_t)(address >> 16);
    WINDOW_BYTE = (uint8_t)(address >> 8);
    WINDOW_BYTE = (uint8_t)address;
}

static void end(void)
{
    FMC_CONTROL = USER_MODE | DESELECT;
}

static void wait(void)
{
    uint8_t status;
    do {
        begin(READ_STATUS);
        status = WINDOW_BYTE;
        end();
    } while ((status & BUSY) != 0);
}

static void enable_write(void)
{
    begin(WRITE_ENABLE);
    end();
}

void nor_read(uint32_t address, void *to, size_t size)
{
    uint8_t *bytes = to;
    begin_at(READ, address);
    for (; size >= 4; size -= 4) { /* one access of the bus for four bytes */
        uint32_t word = WINDOW_WORD;
        for (int i = 0; i < 4; i++) {
            *bytes++ = (uint8_t)(word >> (8 * i));
        }
    }
    for (; size > 0; size--) {
        *bytes++ = WINDOW_BYTE;
    }
    end();
}

void nor_program(uint32_t address, const void *from, size_t size)
{
    const uint8_t *bytes = from;
    while (size > 0) {
        size_t now = PAGE - address % PAGE;
        now = now < size ? now : size;
        enable_write();
        begin_at(PROGRAM, address);
        for (size_t i = 0; i < now; i++) {
            WINDOW_BYTE = bytes[i];
        }
        end();
        wait();
        address += (uint32_t)now;
        bytes += now;
        size -= now;
    }
}

void nor_erase(uint32_t address, size_t size)
{
    while (size > 0) {
        bool block = address % BLOCK == 0 && size >= BLOCK;
        enable_write();
        begin_at(block ? ERASE_64K : ERASE_4K, address);
        end();
        wait();
        address += block ? BLOCK : SECTOR;
        size -= block ? BLOCK : SECTOR;
    }
}
