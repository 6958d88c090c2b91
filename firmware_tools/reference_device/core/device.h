/* SPDX-License-Identifier: Apache-2.0 */
/* The device as a whole: what the port calls. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persona.h"
#include "smp.h"

/* Start, after power-on or a reset: everything is read from flash anew. False: this board can't work. */
bool device_boot(void);
/* Take bytes from the UART, and answer. */
void device_receive(const uint8_t *bytes, size_t size);
/* Speak another language than SMP, from the next boot on. NULL: SMP. */
void device_speak(const struct persona *persona);
/* Reset once the response that is being made is out. */
void device_reset_later(void);
/* Was that asked for? What comes behind it is lost, as on a board. */
bool device_resets(void);
/* Characters in the lines that are sent; FRAMING_LINE_MAX unless told. Longer lines save 3 bytes each. */
void device_set_line(size_t characters);
/* Called after each request: bytes on the wire and what the handler returned. NULL: nobody listens. */
typedef void device_observer(const struct smp_request *request, int rc, size_t bytes_in, size_t bytes_out);
void device_observe(device_observer *observer);

#endif
