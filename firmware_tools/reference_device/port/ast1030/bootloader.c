/* SPDX-License-Identifier: Apache-2.0 */
/* The bootloader's program: run an image, or serve recovery. */
#include "../../core/bootloader.h"

#include <string.h>

#include "../../core/crypto.h"
#include "../../core/image.h"
#include "../../core/port.h"
#include "../../core/server.h"
#include "board.h"

const char *port_bootloader(void)
{
    return BOOTLOADER_VERSION;
}

/* Copy the image that was found good, and look at the copy: what runs is what was checked, whatever the flash says when
 * it is read a second time. */
static bool load(const struct image *image)
{
    uint8_t *to = (uint8_t *)(uintptr_t)APPLICATION;
    uint8_t hash[CRYPTO_SHA256];
    enum port_flash_area area = image_running_slot() == 0 ? PORT_FLASH_SLOT0 : PORT_FLASH_SLOT1;
    if (!port_flash_read(area, 0, to, image->hashed)) {
        return false;
    }
    crypto_sha256_begin();
    crypto_sha256_add(to, image->hashed);
    crypto_sha256_end(hash);
    if (memcmp(hash, image->hash, sizeof hash) != 0) {
        return false;
    }
    const uint32_t *vectors = (const uint32_t *)(uintptr_t)(APPLICATION + image->start);
    return image->start % 4 == 0 && image->hashed >= image->start + 8 && vectors[0] <= RAM_SIZE &&
           vectors[1] >= APPLICATION + image->start && vectors[1] < APPLICATION + image->hashed;
}

static void run(const struct image *image)
{
    struct handover *handover = (struct handover *)(uintptr_t)HANDOVER;
    memset(handover, 0, sizeof *handover);
    handover->magic = HANDOVER_MAGIC;
    memcpy(handover->version, BOOTLOADER_VERSION, sizeof BOOTLOADER_VERSION);
    start_program(APPLICATION + image->start);
}

void program(void)
{
    uart_open();
    nor_open();
    enum bootloader_verdict verdict = fuses_open() ? bootloader_boot() : BOOTLOADER_FAILED;
    if (verdict == BOOTLOADER_RUN) {
        if (load(image_in_slot(0))) {
            run(image_in_slot(0));
        }
        port_log("*** bootloader: the image can't be started ***");
    }
    uart_listen();
    for (;;) {
        uint8_t bytes[256];
        size_t got = uart_read(bytes, sizeof bytes);
        if (verdict != BOOTLOADER_FAILED) {
            server_receive(bytes, got);
        }
    }
}
