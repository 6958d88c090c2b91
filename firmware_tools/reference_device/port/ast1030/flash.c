/* SPDX-License-Identifier: Apache-2.0 */
/* The areas of port.h in the NOR flash. */
#include "../../core/image.h"
#include "../../core/port.h"
#include "../../core/store.h"
#include "board.h"

static const struct {
    uint32_t begin;
    uint32_t size;
} areas[] = {
    [PORT_FLASH_STORE] = {NOR_STORE, 2 * STORE_HALF},
    [PORT_FLASH_SLOT0] = {NOR_SLOT0, IMAGE_SLOT},
    [PORT_FLASH_SLOT1] = {NOR_SLOT1, IMAGE_SLOT},
};

static bool inside(enum port_flash_area area, uint32_t offset, size_t size, uint32_t unit)
{
    return offset <= areas[area].size && size <= areas[area].size - offset && offset % unit == 0 && size % unit == 0;
}

bool port_flash_read(enum port_flash_area area, uint32_t offset, void *to, size_t size)
{
    if (!inside(area, offset, size, 1)) {
        return false;
    }
    nor_read(areas[area].begin + offset, to, size);
    return true;
}

bool port_flash_program(enum port_flash_area area, uint32_t offset, const void *from, size_t size)
{
    if (!inside(area, offset, size, PORT_FLASH_ALIGN)) {
        return false;
    }
    nor_program(areas[area].begin + offset, from, size);
    return true;
}

bool port_flash_erase(enum port_flash_area area, uint32_t offset, size_t size)
{
    if (!inside(area, offset, size, PORT_FLASH_SECTOR)) {
        return false;
    }
    nor_erase(areas[area].begin + offset, size);
    return true;
}
