/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this port share. */
#ifndef LINUX_PORT_H
#define LINUX_PORT_H

#include <stdbool.h>
#include <stddef.h>

/* death.c: print "reference-device: <message>[: <reason of errno>]" on stderr and exit with 1. */
void fail(const char *message, bool with_errno) __attribute__((noreturn));

/* End when the thread that started this process ends. */
void death_with_parent(void);
/* Cut the power once the board has come to this state, before it says so. */
void death_in_state(long state);
/* Called after the first boot: a board that starts in that state or beyond lives. */
void death_ahead(void);
/* Called before bytes leave the UART; may cut the power, and then does not return. */
void before_send(void);

/* flash.c: the flash is DIR/flash.bin, mode 0600, held by flock. The private key stands in it in plain. */
void flash_open(const char *directory);
/* Cut the power in the middle of operation `operation` (1: the first program or erase) after `torn` of its bytes;
 * -1: half of them. */
void flash_cut_power(long operation, long torn);

/* image_key.c: PEM, or the 65 bytes of the point. */
void image_key_read(const char *path);

/* uart.c */
enum { UART_CLOSED = -1, UART_SILENT = 0, UART_TIMEOUT = -2 };
/* `fd` is a pty master, one end of a socketpair, or a tty. */
void uart_open(int fd);
/* Make a pty and let `link` point at its tty. */
int uart_make_pty(const char *link);
void uart_remove_link(void);
/* Wait for bytes, at most so long (-1: for ever). Returns how many, UART_TIMEOUT, UART_SILENT if nobody has the other end
 * open, UART_CLOSED if it is gone for good. */
long uart_read(unsigned char *to, size_t size, int milliseconds);

/* trace.c: one JSON line for each request, with the CPU time it took. */
void trace_open(const char *path);
void trace_start(void);

#endif
