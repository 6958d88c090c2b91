/* SPDX-License-Identifier: Apache-2.0 */
#include "image_choice.h"

#include <string.h>

#include "store.h"

bool choice_load(struct choice *to)
{
    memset(to, 0, sizeof *to);
    size_t size = store_size(STORE_IMAGE);
    /* Boards from before the floor have a shorter record: they have none. */
    if (size > 0 && size <= sizeof *to && !store_read(STORE_IMAGE, 0, to, size)) {
        return false;
    }
    to->active &= 1;
    return true;
}

bool choice_save(const struct choice *choice)
{
    return store_write(STORE_IMAGE, choice, sizeof *choice);
}

struct choice choice_at_boot(struct choice now, const bool may_run[2])
{
    uint8_t other = now.active ^ 1;
    struct choice next = now;
    if (now.pending != IMAGE_STAYS) {
        next.pending = IMAGE_STAYS;
        next.trial = 0;
        if (may_run[other]) {
            next.active = other;
            next.trial = now.pending == IMAGE_TEST;
        }
    } else if (now.trial != 0) {
        next.trial = 0;
        next.active = other;
    }
    if (!may_run[next.active] && may_run[next.active ^ 1]) {
        next.active ^= 1; /* whatever was asked for: run what can */
        next.trial = 0;
    }
    return next;
}

/* Where the bytes of a release stand, the heaviest first. */
static const uint8_t weight[IMAGE_RELEASE] = {0, 1, 3, 2, 7, 6, 5, 4};

int choice_compare(const uint8_t one[IMAGE_RELEASE], const uint8_t other[IMAGE_RELEASE])
{
    for (int i = 0; i < IMAGE_RELEASE; i++) {
        int difference = one[weight[i]] - other[weight[i]];
        if (difference != 0) {
            return difference;
        }
    }
    return 0;
}

void choice_raise_floor(struct choice *choice, const uint8_t release[IMAGE_RELEASE])
{
    if (choice_compare(release, choice->floor) > 0) {
        memcpy(choice->floor, release, IMAGE_RELEASE);
    }
}
