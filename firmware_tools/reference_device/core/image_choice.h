/* SPDX-License-Identifier: Apache-2.0 */
/* Which slot runs: one record in the store, so that a power cut leaves the choice before or the one after. */
#ifndef IMAGE_CHOICE_H
#define IMAGE_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

enum { IMAGE_RELEASE = 8 }; /* the version as it stands in the header: major, minor, revision (16), build (32) */

/* What the next boot does with the other slot. */
enum image_pending { IMAGE_STAYS = 0, IMAGE_TEST = 1, IMAGE_PERMANENT = 2 };

/* The record, byte for byte. */
struct choice {
    uint8_t active;  /* slot of the flash that runs */
    uint8_t pending; /* enum image_pending */
    uint8_t trial;   /* 1: what runs goes away with the next boot if it is not confirmed */
    uint8_t reserved;
    uint8_t floor[IMAGE_RELEASE]; /* the highest release that was ever confirmed; lower ones do not run */
};

/* None in the store: slot 0, confirmed, and no floor. */
bool choice_load(struct choice *to);
bool choice_save(const struct choice *choice);
/* What the boot that happens now makes of it. `may_run`, by slot of the flash: is there an image that may run? If none
 * is, `active` means nothing. */
struct choice choice_at_boot(struct choice now, const bool may_run[2]);
/* Less than 0: `one` is older than `other`; 0: the same. */
int choice_compare(const uint8_t one[IMAGE_RELEASE], const uint8_t other[IMAGE_RELEASE]);
/* Never run anything older than this again. */
void choice_raise_floor(struct choice *choice, const uint8_t release[IMAGE_RELEASE]);

#endif
