/* SPDX-License-Identifier: Apache-2.0 */
/* From the reset vector to program(), the vectors, and the heap of Mbed TLS. */
#include "board.h"

#define VTOR REGISTER(0xe000ed08)
#define AIRCR REGISTER(0xe000ed0c)
enum { UART5_INTERRUPT = 8, INTERRUPTS = 64 };

extern uint32_t bss_begin[];
extern uint32_t bss_end[];
extern uint32_t stack_end[];
extern char heap_begin[];
extern char heap_end[];

void reset_handler(void) __attribute__((noreturn));
void uart_interrupt(void);
void *_sbrk(ptrdiff_t more);

/* Nothing here can go on: as a watchdog would. */
static void fault(void)
{
    AIRCR = 0x05fa0004;
    for (;;) {
    }
}

typedef void handler(void);
struct vectors {
    const void *stack;
    handler *system[15];
    handler *interrupts[INTERRUPTS];
};

__attribute__((section(".vectors"), used)) static const struct vectors vectors = {
    .stack = stack_end,
    .system = {reset_handler, fault, fault, fault, fault, fault, [10] = fault, [13] = fault, [14] = fault},
    .interrupts = {[UART5_INTERRUPT] = uart_interrupt},
};

void reset_handler(void)
{
    /* Data needs no copying: QEMU, or the bootloader, has just written the whole program into RAM. */
    for (uint32_t *at = bss_begin; at < bss_end; at++) {
        *at = 0;
    }
    VTOR = (uint32_t)(uintptr_t)&vectors;
    program();
}

void start_program(uintptr_t at)
{
    const uint32_t *words = (const uint32_t *)at;
    __asm volatile("cpsid i\n msr msp, %0\n cpsie i\n bx %1" : : "r"(words[0]), "r"(words[1]) : "memory");
    for (;;) {
    }
}

/* For the C library's malloc(), which only Mbed TLS calls. */
void *_sbrk(ptrdiff_t more)
{
    static char *end = heap_begin;
    char *begin = end;
    if (more > heap_end - end) {
        return (void *)-1;
    }
    end += more;
    return begin;
}
