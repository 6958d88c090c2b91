/* SPDX-License-Identifier: Apache-2.0 */
/* The application: the device as the station knows it. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persona.h"

/* Start, after power-on or a reset, or when a bootloader says so: everything is read from flash anew. False: this board
 * can't work. */
bool device_boot(void);
/* Take bytes from the UART, and answer. */
void device_receive(const uint8_t *bytes, size_t size);
/* Speak another language than SMP, from the next boot on. NULL: SMP. */
void device_speak(const struct persona *persona);

#endif
