/* SPDX-License-Identifier: Apache-2.0 */
/* What a real part keeps in one-time programmable memory, modelled as the last sector of the NOR flash: identity, the key
 * for images, and whether the debug port is closed. QEMU has no fuses for this part;
 * firmware_tools/virtual_line/emulated_board.py burns the sector when it makes a board. The firmware only ever turns the
 * debug byte from 0xff into 0.
 *
 *     magic(4) 0(12)  hardware id(64)  model(32)  image key(65)  0...   at 0x100: debug(1)
 *
 * Texts are filled up with zeros. An image key that begins with 0xff was not burned: then no image is good. */
#include <string.h>

#include "../../core/crypto.h"
#include "../../core/port.h"
#include "board.h"

#define FUSES_MAGIC 0x31535546u /* "FUS1" */
enum { DEBUG_FUSE = 0x100 };

static struct {
    uint32_t magic;
    uint8_t reserved[12];
    char hardware_id[64];
    char model[32];
    uint8_t image_key[CRYPTO_POINT];
} fuses;
static char hardware_id[sizeof fuses.hardware_id + 1];
static char model[sizeof fuses.model + 1];

bool fuses_open(void)
{
    nor_read(NOR_FUSES, &fuses, sizeof fuses);
    memcpy(hardware_id, fuses.hardware_id, sizeof fuses.hardware_id);
    memcpy(model, fuses.model, sizeof fuses.model);
    return fuses.magic == FUSES_MAGIC && hardware_id[0] != '\0' && model[0] != '\0';
}

const char *port_hardware_id(void)
{
    return hardware_id;
}

const char *port_model(void)
{
    return model;
}

const uint8_t *port_image_key(void)
{
    return fuses.image_key;
}

bool port_close_debug(void)
{
    const uint8_t closed = 0;
    if (!port_debug_is_closed()) {
        nor_program(NOR_FUSES + DEBUG_FUSE, &closed, 1);
    }
    return port_debug_is_closed();
}

bool port_debug_is_closed(void)
{
    uint8_t fuse;
    nor_read(NOR_FUSES + DEBUG_FUSE, &fuse, 1);
    return fuse == 0;
}
