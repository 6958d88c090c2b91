/* SPDX-License-Identifier: Apache-2.0 */
#include "bootloader.h"

#include "credentials.h"
#include "crypto.h"
#include "image.h"
#include "port.h"
#include "server.h"
#include "store.h"

static const struct smp_group groups[] = {
    {SMP_GROUP_OS, group_os, group_os_version1},
    {SMP_GROUP_IMAGE, group_image, group_image_version1},
};
static const struct smp_service service = {groups, sizeof groups / sizeof *groups};

/* A board that was locked stays so while it waits for an image. */
static bool close_debug_if_locked(void)
{
    uint8_t locks = 0;
    if (store_size(STORE_LOCKS) == 1 && !store_read(STORE_LOCKS, 0, &locks, 1)) {
        return false;
    }
    return (locks & LOCK_DEBUG) == 0 || port_close_debug();
}

enum bootloader_verdict bootloader_boot(void)
{
    server_start(&service);
    if (!crypto_open() || !store_open() || !close_debug_if_locked() || !image_boot()) {
        port_log("*** bootloader " BOOTLOADER_VERSION ": hardware failure ***");
        return BOOTLOADER_FAILED;
    }
    if (image_runs()) {
        return BOOTLOADER_RUN;
    }
    port_log("*** bootloader " BOOTLOADER_VERSION ": no image to run, serial recovery ***");
    return BOOTLOADER_RECOVER;
}
