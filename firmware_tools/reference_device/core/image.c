/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <string.h>

#include "crypto.h"
#include "port.h"
#include "store.h"

/* The record in the store. */
struct choice {
    uint8_t active;  /* slot of the flash that runs */
    uint8_t pending; /* enum image_pending: what the next boot does */
    uint8_t trial;   /* 1: what runs goes away with the next boot if it is not confirmed */
    uint8_t reserved;
};

static struct choice choice;
static struct image images[2]; /* by slot of the flash */

static struct {
    bool open;
    bool has_sha;
    uint32_t size;
    uint32_t received;
    uint8_t sha[IMAGE_HASH];
    uint8_t tail[PORT_FLASH_ALIGN]; /* received, and too few to be programmed */
    size_t tail_size;
} upload;

static int other_slot(void)
{
    return choice.active ^ 1;
}

static enum port_flash_area area_of(int slot)
{
    return slot == 0 ? PORT_FLASH_SLOT0 : PORT_FLASH_SLOT1;
}

static bool choose(struct choice wanted)
{
    if (!store_write(STORE_IMAGE, &wanted, sizeof wanted)) {
        return false;
    }
    choice = wanted;
    return true;
}

static bool load_choice(void)
{
    memset(&choice, 0, sizeof choice);
    if (store_size(STORE_IMAGE) != sizeof choice) {
        return true;
    }
    if (!store_read(STORE_IMAGE, 0, &choice, sizeof choice)) {
        return false;
    }
    choice.active &= 1;
    return true;
}

bool image_boot(void)
{
    memset(&upload, 0, sizeof upload);
    if (!load_choice()) {
        return false;
    }
    for (int slot = 0; slot < 2; slot++) {
        (void)image_check(slot, &images[slot]);
    }
    struct choice next = choice;
    if (choice.pending != IMAGE_STAYS) {
        next.pending = IMAGE_STAYS;
        next.trial = 0;
        if (images[other_slot()].present) {
            next.active = (uint8_t)other_slot();
            next.trial = choice.pending == IMAGE_TEST;
        }
    } else if (choice.trial != 0) {
        next.trial = 0;
        next.active = (uint8_t)other_slot();
    }
    if (!images[next.active].present && images[next.active ^ 1].present) {
        next.active ^= 1; /* whatever was asked for: run what is whole */
        next.trial = 0;
    }
    if (memcmp(&next, &choice, sizeof next) != 0 && !choose(next)) {
        return false;
    }
    if (!images[choice.active].present) {
        return port_flash_erase(area_of(choice.active), 0, IMAGE_SLOT) && image_write_builtin(choice.active) &&
               image_check(choice.active, &images[choice.active]) == IMAGE_OK;
    }
    return true;
}

const struct image *image_in_slot(int slot)
{
    return &images[slot == 0 ? choice.active : other_slot()];
}

bool image_is_confirmed(void)
{
    return choice.trial == 0;
}

enum image_pending image_pending(void)
{
    return (enum image_pending)choice.pending;
}

enum image_rc image_confirm(void)
{
    struct choice next = choice;
    next.trial = 0;
    if (choice.trial != 0 && !choose(next)) {
        return IMAGE_FLASH_WRITE_FAILED;
    }
    return IMAGE_OK;
}

enum image_rc image_mark(const uint8_t hash[IMAGE_HASH], bool permanent)
{
    const struct image *running = image_in_slot(0);
    const struct image *other = image_in_slot(1);
    if (running->present && memcmp(running->hash, hash, IMAGE_HASH) == 0) {
        return permanent ? image_confirm() : IMAGE_TEST_OF_ACTIVE_DENIED;
    }
    if (!other->present || memcmp(other->hash, hash, IMAGE_HASH) != 0) {
        return IMAGE_HASH_NOT_FOUND;
    }
    struct choice next = choice;
    next.pending = permanent ? IMAGE_PERMANENT : IMAGE_TEST;
    if (next.pending != choice.pending && !choose(next)) {
        return IMAGE_FLASH_WRITE_FAILED;
    }
    return IMAGE_OK;
}

/* Make slot 1 empty. While a trial runs, slot 1 holds the image to go back to, and stays. */
enum image_rc image_erase(void)
{
    if (choice.trial != 0) {
        return IMAGE_NO_FREE_SLOT;
    }
    struct choice next = choice;
    next.pending = IMAGE_STAYS;
    if (choice.pending != IMAGE_STAYS && !choose(next)) {
        return IMAGE_FLASH_WRITE_FAILED;
    }
    upload.open = false;
    images[other_slot()].present = false;
    return port_flash_erase(area_of(other_slot()), 0, IMAGE_SLOT) ? IMAGE_OK : IMAGE_FLASH_ERASE_FAILED;
}

enum image_rc image_upload_begin(uint32_t size, const uint8_t *sha, uint32_t *next)
{
    *next = 0;
    if (size == 0) {
        return IMAGE_INVALID_LENGTH;
    }
    if (size > IMAGE_SLOT) {
        return IMAGE_TOO_LARGE;
    }
    if (upload.open && sha != NULL && upload.has_sha && upload.size == size &&
        memcmp(upload.sha, sha, IMAGE_HASH) == 0) {
        *next = upload.received;
        return IMAGE_OK;
    }
    enum image_rc rc = image_erase();
    if (rc != IMAGE_OK) {
        return rc;
    }
    memset(&upload, 0, sizeof upload);
    upload.open = true;
    upload.size = size;
    if (sha != NULL) {
        upload.has_sha = true;
        memcpy(upload.sha, sha, IMAGE_HASH);
    }
    return IMAGE_OK;
}

static bool program_tail(void)
{
    memset(upload.tail + upload.tail_size, 0xff, sizeof upload.tail - upload.tail_size);
    return port_flash_program(area_of(other_slot()), upload.received - (uint32_t)upload.tail_size, upload.tail,
                              sizeof upload.tail);
}

static bool program(const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        if (upload.tail_size == 0 && count >= PORT_FLASH_ALIGN) {
            size_t whole = count / PORT_FLASH_ALIGN * PORT_FLASH_ALIGN;
            if (!port_flash_program(area_of(other_slot()), upload.received, bytes, whole)) {
                return false;
            }
            upload.received += (uint32_t)whole;
            bytes += whole;
            count -= whole;
        } else {
            upload.tail[upload.tail_size++] = *bytes++;
            upload.received += 1;
            count -= 1;
            if (upload.tail_size == PORT_FLASH_ALIGN) {
                if (!program_tail()) {
                    return false;
                }
                upload.tail_size = 0;
            }
        }
    }
    return true;
}

static bool sha_matches(void)
{
    crypto_sha256_begin();
    for (uint32_t done = 0; done < upload.size;) {
        uint8_t piece[512];
        uint32_t now = upload.size - done < sizeof piece ? upload.size - done : (uint32_t)sizeof piece;
        if (!port_flash_read(area_of(other_slot()), done, piece, now)) {
            return false;
        }
        crypto_sha256_add(piece, now);
        done += now;
    }
    uint8_t sha[IMAGE_HASH];
    crypto_sha256_end(sha);
    return memcmp(sha, upload.sha, IMAGE_HASH) == 0;
}

static enum image_rc finish_upload(bool *matches)
{
    upload.open = false;
    *matches = !upload.has_sha || sha_matches();
    enum image_rc rc = *matches ? image_check(other_slot(), &images[other_slot()]) : IMAGE_OK;
    if (!*matches || rc != IMAGE_OK) {
        (void)image_erase();
    }
    return rc;
}

enum image_rc image_upload(uint32_t offset, const uint8_t *bytes, size_t count, uint32_t *next, bool *matches)
{
    *matches = true;
    if (!upload.open) {
        return IMAGE_INVALID_OFFSET;
    }
    *next = upload.received;
    if (offset != upload.received) {
        return IMAGE_OK; /* the answer says where to go on */
    }
    if (count > upload.size - upload.received) {
        return IMAGE_DATA_OVERRUN;
    }
    static const uint8_t magic[4] = {0x3d, 0xb8, 0xf3, 0x96};
    if (offset == 0 && (count < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0)) {
        upload.open = false; /* before anything is programmed */
        return count < sizeof magic ? IMAGE_INVALID_HEADER : IMAGE_INVALID_MAGIC;
    }
    if (!program(bytes, count) ||
        (upload.received == upload.size && upload.tail_size > 0 && !program_tail())) {
        upload.open = false;
        return IMAGE_FLASH_WRITE_FAILED;
    }
    *next = upload.received;
    return upload.received == upload.size ? finish_upload(matches) : IMAGE_OK;
}
