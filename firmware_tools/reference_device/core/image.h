/* SPDX-License-Identifier: Apache-2.0 */
/* Firmware images in two slots, in the form of MCUboot (header magic 0x96f3b83d, TLVs behind the body).
 *
 * Which slot runs is a record in the store, changed in one go at boot: nothing is copied, so a power cut can't
 * leave half an image. To the station the running image is always slot 0 and the other one slot 1, as with a
 * bootloader that swaps. An image on trial that is not confirmed before the next boot gives way to the one before,
 * as in MCUboot.
 *
 * A board with a key for images (port_image_key) runs only what is signed by it, and nothing older than what it once
 * confirmed. If nothing may run it stays in its bootloader, which takes an image. */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image_choice.h"
#include "port.h"

enum { IMAGE_SLOT = 256 * 1024 };
enum { IMAGE_HASH = 32 };
enum { IMAGE_VERSION_TEXT = 28 }; /* "255.255.65535.4294967295" and its end */

struct image {
    bool present; /* whole, the hash is right, and so is the signature if this board asks for one */
    uint8_t hash[IMAGE_HASH];
    uint8_t release[IMAGE_RELEASE];
    uint32_t start; /* of the body in the slot; behind the header */
    uint32_t hashed; /* bytes from the begin of the slot that the hash covers */
    char version[IMAGE_VERSION_TEXT];
};

/* Return codes of the image group, numbered as SMP's are. */
enum image_rc {
    IMAGE_OK = 0,
    IMAGE_UNKNOWN = 1,
    IMAGE_NO_IMAGE = 3,
    IMAGE_NO_TLVS = 4,
    IMAGE_INVALID_TLV = 5,
    IMAGE_MULTIPLE_HASHES = 6,
    IMAGE_HASH_NOT_FOUND = 8,
    IMAGE_NO_FREE_SLOT = 9,
    IMAGE_FLASH_READ_FAILED = 11,
    IMAGE_FLASH_WRITE_FAILED = 12,
    IMAGE_FLASH_ERASE_FAILED = 13,
    IMAGE_INVALID_SLOT = 14,
    IMAGE_INVALID_OFFSET = 20,
    IMAGE_INVALID_LENGTH = 21,
    IMAGE_INVALID_HEADER = 22,
    IMAGE_INVALID_MAGIC = 23,
    IMAGE_INVALID_HASH = 24,
    IMAGE_IS_OLDER = 27,
    IMAGE_TOO_LARGE = 30,
    IMAGE_DATA_OVERRUN = 31,
    IMAGE_TEST_OF_ACTIVE_DENIED = 33,
    IMAGE_NOT_SIGNED = 0x100, /* the group has no number for it: told as SMP_EACCESSDENIED */
};

/* At boot, by whoever starts the application: change slots if that was asked for, go back if a trial was not confirmed.
 * Then see image_runs(). False: the flash can't be read or written. */
bool image_boot(void);
/* In an application that a bootloader has started: find out what that one has chosen. */
bool image_open(void);
/* Is there something to run? False in the bootloader only. */
bool image_runs(void);
/* On a board without a bootloader that has nothing to run: write the image that it comes with, and choose it. */
bool image_make_builtin(void);
/* The image in slot 0 (running) or 1. */
const struct image *image_in_slot(int slot);
/* Slots of the flash where slot 0 and slot 1 lie. */
int image_running_slot(void);
int image_other_slot(void);
/* Is it older than what was once confirmed, on a board that minds? */
bool image_is_older(const uint8_t release[IMAGE_RELEASE]);
/* Would a boot run this one? */
bool image_may_run(const struct image *image);
bool image_is_confirmed(void);
enum image_pending image_pending(void);

/* Run the image with this hash from the next boot on. */
enum image_rc image_mark(const uint8_t hash[IMAGE_HASH], bool permanent);
/* Keep the image that runs. */
enum image_rc image_confirm(void);
enum image_rc image_erase(void);

/* Take an image for slot 1. `sha` (NULL: none) is over all bytes that are sent; with it a broken transfer goes on where
 * it was. `first`: its first bytes; what they say must fit before anything is erased. `*next` is the offset wanted
 * next. */
enum image_rc image_upload_begin(uint32_t size, const uint8_t *sha, const uint8_t *first, size_t count, uint32_t *next);
/* `*matches`: the `sha` announced is that of the bytes that came; meaningful once `*next` is the size. */
enum image_rc image_upload(uint32_t offset, const uint8_t *bytes, size_t count, uint32_t *next, bool *matches);
/* What was sent so far is forgotten. */
void image_upload_forget(void);

/* Look at slot 1 anew, and erase it if what lies there may not run. */
enum image_rc image_take(void);

/* image_check.c: is there a whole image in the slot of the flash, of which hash and signature are right? */
enum image_rc image_check(int slot, struct image *image);
/* image_check.c: does a header that begins with these bytes fit? `*release` (NULL: they are too few) points into them. */
enum image_rc image_check_first(const uint8_t *bytes, size_t count, const uint8_t **release);
enum port_flash_area image_area(int slot);
/* image_check.c: put the image that the board comes with into an erased slot. */
bool image_write_builtin(int slot);

#endif
