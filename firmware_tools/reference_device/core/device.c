/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <string.h>

#include "credentials.h"
#include "crypto.h"
#include "image.h"
#include "port.h"
#include "server.h"
#include "store.h"

static const struct smp_group groups[] = {
    {SMP_GROUP_OS, group_os, group_os_version1},
    {SMP_GROUP_IMAGE, group_image, group_image_version1},
    {SMP_GROUP_PROVISIONING, group_provisioning, group_provisioning_version1},
};
static const struct smp_service service = {groups, sizeof groups / sizeof *groups};
static const struct persona *persona;

void device_speak(const struct persona *wanted)
{
    persona = wanted;
}

static void log_boot(void)
{
    char line[96] = "*** reference-device ";
    strncat(line, image_in_slot(0)->version, IMAGE_VERSION_TEXT);
    strncat(line, image_is_confirmed() ? " booted ***" : " booted on trial ***", 24);
    port_log(line);
}

/* A bootloader has chosen what runs; without one we choose ourselves, and there is always something. */
static bool find_images(void)
{
    return port_bootloader() != NULL ? image_open() : image_boot() && (image_runs() || image_make_builtin());
}

bool device_boot(void)
{
    server_start(&service);
    if (!crypto_open() || !store_open() || !find_images() || !credentials_boot()) {
        port_log("*** reference-device: hardware failure ***");
        return false;
    }
    if (persona != NULL) {
        return persona->boot();
    }
    log_boot();
    return true;
}

void device_receive(const uint8_t *bytes, size_t size)
{
    if (persona == NULL) {
        server_receive(bytes, size);
        return;
    }
    persona->receive(bytes, size);
    server_reset_if_wanted();
}
