/* SPDX-License-Identifier: Apache-2.0 */
/* Flash as a file. What lies beyond the end of the file is erased, so that a blank board costs nothing. Nothing is
 * synced: the file survives kill -9 of the process, which is this board's power cut, and not one of the host. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../core/image.h"
#include "../../core/port.h"
#include "../../core/store.h"
#include "linux_port.h"

static const struct {
    off_t begin;
    uint32_t size;
} areas[] = {
    [PORT_FLASH_STORE] = {0, 2 * STORE_HALF},
    [PORT_FLASH_SLOT0] = {2 * STORE_HALF, IMAGE_SLOT},
    [PORT_FLASH_SLOT1] = {2 * STORE_HALF + IMAGE_SLOT, IMAGE_SLOT},
};

static int file = -1;
static off_t end; /* of the file */
static long operations;
static long cut_at;
static long cut_after = -1;

void flash_cut_power(long operation, long torn)
{
    cut_at = operation;
    cut_after = torn;
}

void flash_open(const char *directory)
{
    char path[4096];
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        fail(directory, true);
    }
    int length = snprintf(path, sizeof path, "%s/flash.bin", directory);
    if (length < 0 || (size_t)length >= sizeof path) {
        fail("the name of the storage folder is too long", false);
    }
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
        fail(path, true);
    }
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        fail("another device uses this storage", false);
    }
    struct stat now;
    if (fstat(file, &now) != 0) {
        fail(path, true);
    }
    end = now.st_size;
}

static bool inside(enum port_flash_area area, uint32_t offset, size_t size)
{
    return offset <= areas[area].size && size <= areas[area].size - offset;
}

static bool read_at(off_t at, uint8_t *to, size_t size)
{
    memset(to, 0xff, size);
    if (at >= end) {
        return true;
    }
    size_t have = end - at < (off_t)size ? (size_t)(end - at) : size;
    return pread(file, to, have, at) == (ssize_t)have;
}

bool port_flash_read(enum port_flash_area area, uint32_t offset, void *to, size_t size)
{
    return inside(area, offset, size) && read_at(areas[area].begin + (off_t)offset, to, size);
}

static bool write_at(off_t at, const uint8_t *from, size_t size)
{
    ssize_t written = pwrite(file, from, size, at);
    if (written > 0 && at + written > end) {
        end = at + written;
    }
    return written == (ssize_t)size;
}

static bool fill(off_t at, off_t to)
{
    uint8_t erased[4096];
    memset(erased, 0xff, sizeof erased);
    while (at < to) {
        size_t now = to - at < (off_t)sizeof erased ? (size_t)(to - at) : sizeof erased;
        if (!write_at(at, erased, now)) {
            return false;
        }
        at += (off_t)now;
    }
    return true;
}

/* How many bytes of an operation of `size` come to pass? All, unless the power is cut in it. */
static size_t survives(size_t size)
{
    operations += 1;
    if (operations != cut_at) {
        return size;
    }
    size_t torn = cut_after < 0 ? size / 2 : (size_t)cut_after;
    return torn < size ? torn : size;
}

static void maybe_die(void)
{
    if (operations == cut_at) {
        (void)kill(getpid(), SIGKILL);
        for (;;) {
            pause();
        }
    }
}

bool port_flash_program(enum port_flash_area area, uint32_t offset, const void *from, size_t size)
{
    if (!inside(area, offset, size) || offset % PORT_FLASH_ALIGN != 0 || size % PORT_FLASH_ALIGN != 0) {
        return false;
    }
    off_t at = areas[area].begin + (off_t)offset;
    const uint8_t *bytes = from;
    /* Real flash turns ones into zeros only: refuse what would not work there. */
    for (size_t done = 0; done < size;) {
        uint8_t before[512];
        size_t now = size - done < sizeof before ? size - done : sizeof before;
        if (!read_at(at + (off_t)done, before, now)) {
            return false;
        }
        for (size_t i = 0; i < now; i++) {
            if (before[i] != 0xff) {
                return false;
            }
        }
        done += now;
    }
    if (!fill(end, at)) { /* what is between was erased, and stays so */
        return false;
    }
    bool written = write_at(at, bytes, survives(size));
    maybe_die();
    return written;
}

bool port_flash_erase(enum port_flash_area area, uint32_t offset, size_t size)
{
    if (!inside(area, offset, size) || offset % PORT_FLASH_SECTOR != 0 || size % PORT_FLASH_SECTOR != 0) {
        return false;
    }
    off_t at = areas[area].begin + (off_t)offset;
    off_t to = at + (off_t)survives(size);
    bool done = true;
    if (at < end && to >= end) {
        done = ftruncate(file, at) == 0;
        end = at;
    } else if (at < end) {
        done = fill(at, to);
    }
    maybe_die();
    return done;
}
