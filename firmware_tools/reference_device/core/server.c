/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include "framing.h"
#include "port.h"

static const struct smp_service *service;
static struct framing framing;
static uint8_t response[FRAMING_MESSAGE_MAX];
static bool raw;
static bool reset_wanted;
static size_t line_max = FRAMING_LINE_MAX;
static server_observer *observer;

void server_set_line(size_t characters)
{
    line_max = characters;
}

void server_set_raw(bool wanted)
{
    raw = wanted;
}

bool server_awaits_silence(void)
{
    return raw && framing_awaits_silence(&framing);
}

void server_silence(void)
{
    framing_silence(&framing);
}

void server_observe(server_observer *wanted)
{
    observer = wanted;
}

bool server_resets(void)
{
    return reset_wanted;
}

void server_reset_later(void)
{
    reset_wanted = true;
}

void server_start(const struct smp_service *wanted)
{
    service = wanted;
    reset_wanted = false;
    framing_reset(&framing);
}

static void answer(const uint8_t *message, size_t size)
{
    struct smp_request request;
    int rc = 0;
    size_t bytes = smp_answer(service, message, size, response, sizeof response, &request, &rc);
    if (bytes == 0) {
        return;
    }
    size_t wire = raw ? framing_send_raw(response, bytes) : framing_send(response, bytes, line_max);
    if (observer != NULL) {
        observer(&request, rc, framing.wire, wire);
    }
}

void server_reset_if_wanted(void)
{
    if (reset_wanted) {
        reset_wanted = false;
        port_reset();
    }
}

void server_receive(const uint8_t *bytes, size_t size)
{
    bool (*take)(struct framing *, uint8_t, const uint8_t **, size_t *) = raw ? framing_take_raw : framing_take;
    const uint8_t *message;
    size_t message_size;
    for (size_t i = 0; i < size; i++) {
        if (take(&framing, bytes[i], &message, &message_size)) {
            answer(message, message_size);
            if (reset_wanted) {
                server_reset_if_wanted();
                return; /* what came behind the reset is lost, as on a board */
            }
        }
    }
}
