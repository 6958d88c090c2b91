/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <string.h>

#include "credentials.h"
#include "crypto.h"
#include "framing.h"
#include "image.h"
#include "port.h"
#include "store.h"

static struct framing framing;
static uint8_t response[FRAMING_MESSAGE_MAX];
static bool reset_wanted;
static size_t line_max = FRAMING_LINE_MAX;
static device_observer *observer;
static const struct persona *persona;

void device_set_line(size_t characters)
{
    line_max = characters;
}

void device_observe(device_observer *wanted)
{
    observer = wanted;
}

void device_speak(const struct persona *wanted)
{
    persona = wanted;
}

bool device_resets(void)
{
    return reset_wanted;
}

void device_reset_later(void)
{
    reset_wanted = true;
}

static void log_boot(void)
{
    char line[96] = "*** reference-device ";
    strncat(line, image_in_slot(0)->version, IMAGE_VERSION_TEXT);
    strncat(line, image_is_confirmed() ? " booted ***" : " booted on trial ***", 24);
    port_log(line);
}

bool device_boot(void)
{
    reset_wanted = false;
    framing_reset(&framing);
    if (!crypto_open() || !store_open() || !image_boot() || !credentials_boot()) {
        port_log("*** reference-device: hardware failure ***");
        return false;
    }
    if (persona != NULL) {
        return persona->boot();
    }
    log_boot();
    return true;
}

static void answer(const uint8_t *message, size_t size)
{
    struct smp_request request;
    int rc = 0;
    size_t bytes = smp_answer(message, size, response, sizeof response, &request, &rc);
    if (bytes == 0) {
        return;
    }
    size_t wire = framing_send(response, bytes, line_max);
    if (observer != NULL) {
        observer(&request, rc, framing.wire, wire);
    }
}

static void reset_if_wanted(void)
{
    if (reset_wanted) {
        reset_wanted = false;
        port_reset();
    }
}

void device_receive(const uint8_t *bytes, size_t size)
{
    if (persona != NULL) {
        persona->receive(bytes, size);
        reset_if_wanted();
        return;
    }
    const uint8_t *message;
    size_t message_size;
    for (size_t i = 0; i < size; i++) {
        if (framing_take(&framing, bytes[i], &message, &message_size)) {
            answer(message, message_size);
            if (reset_wanted) {
                reset_if_wanted();
                return; /* what came behind the reset is lost, as on a board */
            }
        }
    }
}
