/* SPDX-License-Identifier: Apache-2.0 */
/* An image on its way into slot 1. Pieces are programmed as they come; what is less than a unit of the flash waits. */
#include <string.h>

#include "crypto.h"
#include "image.h"
#include "port.h"

static struct {
    bool open;
    bool has_sha;
    uint32_t size;
    uint32_t received;
    uint8_t sha[IMAGE_HASH];
    uint8_t tail[PORT_FLASH_ALIGN]; /* received, and too few to be programmed */
    size_t tail_size;
} upload;

void image_upload_forget(void)
{
    memset(&upload, 0, sizeof upload);
}

enum image_rc image_upload_begin(uint32_t size, const uint8_t *sha, const uint8_t *first, size_t count, uint32_t *next)
{
    *next = 0;
    if (size == 0) {
        return IMAGE_INVALID_LENGTH;
    }
    if (size > IMAGE_SLOT) {
        return IMAGE_TOO_LARGE;
    }
    if (count > size) {
        return IMAGE_DATA_OVERRUN;
    }
    if (upload.open && sha != NULL && upload.has_sha && upload.size == size &&
        memcmp(upload.sha, sha, IMAGE_HASH) == 0) {
        *next = upload.received;
        return IMAGE_OK;
    }
    const uint8_t *release;
    enum image_rc rc = image_check_first(first, count, &release);
    if (rc == IMAGE_OK && release != NULL && image_is_older(release)) {
        rc = IMAGE_IS_OLDER;
    }
    if (rc == IMAGE_OK) {
        rc = image_erase();
    }
    if (rc != IMAGE_OK) {
        return rc;
    }
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
    return port_flash_program(image_area(image_other_slot()), upload.received - (uint32_t)upload.tail_size, upload.tail,
                              sizeof upload.tail);
}

static bool program(const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        if (upload.tail_size == 0 && count >= PORT_FLASH_ALIGN) {
            size_t whole = count / PORT_FLASH_ALIGN * PORT_FLASH_ALIGN;
            if (!port_flash_program(image_area(image_other_slot()), upload.received, bytes, whole)) {
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
        if (!port_flash_read(image_area(image_other_slot()), done, piece, now)) {
            return false;
        }
        crypto_sha256_add(piece, now);
        done += now;
    }
    uint8_t sha[IMAGE_HASH];
    crypto_sha256_end(sha);
    return memcmp(sha, upload.sha, IMAGE_HASH) == 0;
}

static enum image_rc finish(bool *matches)
{
    upload.open = false;
    *matches = !upload.has_sha || sha_matches();
    if (*matches) {
        return image_take();
    }
    (void)image_erase();
    return IMAGE_OK;
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
    if (!program(bytes, count) ||
        (upload.received == upload.size && upload.tail_size > 0 && !program_tail())) {
        upload.open = false;
        return IMAGE_FLASH_WRITE_FAILED;
    }
    *next = upload.received;
    return upload.received == upload.size ? finish(matches) : IMAGE_OK;
}
