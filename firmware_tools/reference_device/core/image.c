/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <string.h>

#include "port.h"

static struct choice choice;
static struct image images[2]; /* by slot of the flash */
static bool runs;

int image_running_slot(void)
{
    return choice.active;
}

int image_other_slot(void)
{
    return choice.active ^ 1;
}

static bool choose(struct choice wanted)
{
    if (!choice_save(&wanted)) {
        return false;
    }
    choice = wanted;
    return true;
}

bool image_is_older(const uint8_t release[IMAGE_RELEASE])
{
    return port_image_key() != NULL && choice_compare(release, choice.floor) < 0;
}

bool image_may_run(const struct image *image)
{
    return image->present && !image_is_older(image->release);
}

static bool look(void)
{
    image_upload_forget();
    if (!choice_load(&choice)) {
        return false;
    }
    for (int slot = 0; slot < 2; slot++) {
        (void)image_check(slot, &images[slot]);
    }
    return true;
}

/* Nothing stands behind a choice that is confirmed: nothing older will do. */
static void settle(struct choice *next, const struct image *image)
{
    next->trial = 0;
    if (port_image_key() != NULL) {
        choice_raise_floor(next, image->release);
    }
}

bool image_boot(void)
{
    if (!look()) {
        return false;
    }
    const bool may_run[2] = {image_may_run(&images[0]), image_may_run(&images[1])};
    struct choice next = choice_at_boot(choice, may_run);
    runs = may_run[next.active];
    if (runs && next.trial == 0) {
        settle(&next, &images[next.active]);
    }
    return memcmp(&next, &choice, sizeof next) == 0 || choose(next);
}

bool image_open(void)
{
    runs = true;
    return look();
}

bool image_runs(void)
{
    return runs;
}

bool image_make_builtin(void)
{
    runs = port_flash_erase(image_area(choice.active), 0, IMAGE_SLOT) && image_write_builtin(choice.active) &&
           image_check(choice.active, &images[choice.active]) == IMAGE_OK;
    return runs;
}

const struct image *image_in_slot(int slot)
{
    return &images[slot == 0 ? choice.active : image_other_slot()];
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
    settle(&next, image_in_slot(0));
    if (choice.trial != 0 && !choose(next)) {
        return IMAGE_FLASH_WRITE_FAILED;
    }
    return IMAGE_OK;
}

enum image_rc image_mark(const uint8_t hash[IMAGE_HASH], bool permanent)
{
    const struct image *running = image_in_slot(0);
    const struct image *other = image_in_slot(1);
    if (runs && running->present && memcmp(running->hash, hash, IMAGE_HASH) == 0) {
        return permanent ? image_confirm() : IMAGE_TEST_OF_ACTIVE_DENIED;
    }
    if (!other->present || memcmp(other->hash, hash, IMAGE_HASH) != 0) {
        return IMAGE_HASH_NOT_FOUND;
    }
    if (!image_may_run(other)) {
        return IMAGE_IS_OLDER;
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
    image_upload_forget();
    images[image_other_slot()].present = false;
    return port_flash_erase(image_area(image_other_slot()), 0, IMAGE_SLOT) ? IMAGE_OK : IMAGE_FLASH_ERASE_FAILED;
}

enum image_rc image_take(void)
{
    struct image *image = &images[image_other_slot()];
    enum image_rc rc = image_check(image_other_slot(), image);
    if (rc == IMAGE_OK && !image_may_run(image)) {
        rc = IMAGE_IS_OLDER;
    }
    if (rc != IMAGE_OK) {
        (void)image_erase();
    }
    return rc;
}
