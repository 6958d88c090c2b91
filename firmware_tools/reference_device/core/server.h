/* SPDX-License-Identifier: Apache-2.0 */
/* SMP on the console, for whoever has something to serve: the bootloader in recovery, or the application. */
#ifndef SERVER_H
#define SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smp.h"

/* Serve these groups from now on; what was on its way is lost. */
void server_start(const struct smp_service *service);
/* Take bytes from the UART, and answer. */
void server_receive(const uint8_t *bytes, size_t size);
/* Messages come and go raw, without lines of base64; from the next start on. */
void server_set_raw(bool raw);
/* With raw messages: would a silence of FRAMING_SILENCE_MS mean something? Then tell of it. */
bool server_awaits_silence(void);
void server_silence(void);
/* Reset once the response that is being made is out. */
void server_reset_later(void);
/* Was that asked for? What comes behind it is lost, as on a board. */
bool server_resets(void);
/* Carry it out. */
void server_reset_if_wanted(void);
/* Characters in the lines that are sent; FRAMING_LINE_MAX unless told. Longer lines save 3 bytes each. */
void server_set_line(size_t characters);
/* Called after each request: bytes on the wire and what the handler returned. NULL: nobody listens. */
typedef void server_observer(const struct smp_request *request, int rc, size_t bytes_in, size_t bytes_out);
void server_observe(server_observer *observer);

#endif
