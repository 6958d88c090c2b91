/* SPDX-License-Identifier: Apache-2.0 */
/* Group 1, image management: state, upload, erase. */
#include "image.h"
#include "smp.h"

enum { STATE = 0, UPLOAD = 1, ERASE = 5 };

static void write_flag(struct cbor_writer *response, const char *key, bool value)
{
    cbor_text(response, key);
    cbor_bool(response, value);
}

static void write_image(struct cbor_writer *response, int slot)
{
    const struct image *image = image_in_slot(slot);
    bool running = slot == 0 && image_runs();
    cbor_map(response, 9);
    cbor_text(response, "image");
    cbor_uint(response, 0);
    cbor_text(response, "slot");
    cbor_uint(response, (uint64_t)slot);
    cbor_text(response, "version");
    cbor_text(response, image->version);
    cbor_text(response, "hash");
    cbor_bytes(response, image->hash, IMAGE_HASH);
    write_flag(response, "bootable", image_may_run(image));
    write_flag(response, "pending", slot == 1 && image_pending() != IMAGE_STAYS);
    /* What a trial goes back to is confirmed too: that is why it goes back. */
    write_flag(response, "confirmed", image_runs() && running == image_is_confirmed());
    write_flag(response, "active", running);
    write_flag(response, "permanent", slot == 1 && image_pending() == IMAGE_PERMANENT);
}

static int write_state(struct cbor_writer *response)
{
    cbor_map(response, 2);
    cbor_text(response, "images");
    bool listed[2] = {image_in_slot(0)->present, image_in_slot(1)->present};
    cbor_array(response, (size_t)listed[0] + (size_t)listed[1]);
    for (int slot = 0; slot < 2; slot++) {
        if (listed[slot]) {
            write_image(response, slot);
        }
    }
    cbor_text(response, "splitStatus");
    cbor_uint(response, 0);
    return IMAGE_OK;
}

static int mark(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field fields[] = {{.key = "hash", .type = CBOR_BYTES}, {.key = "confirm", .type = CBOR_BOOL}};
    const struct cbor_field *hash = &fields[0];
    bool confirm;
    if (!cbor_read_map(request->map, request->size, fields, 2)) {
        return -SMP_EINVAL;
    }
    confirm = fields[1].number != 0;
    int rc = IMAGE_INVALID_HASH;
    if (!hash->present && confirm) {
        rc = image_confirm();
    } else if (hash->present && hash->size == IMAGE_HASH) {
        rc = image_mark(hash->bytes, confirm);
    }
    return rc == IMAGE_OK ? write_state(response) : rc;
}

static int upload(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field fields[] = {{.key = "off", .type = CBOR_UINT},     {.key = "data", .type = CBOR_BYTES},
                                  {.key = "len", .type = CBOR_UINT},     {.key = "sha", .type = CBOR_BYTES},
                                  {.key = "image", .type = CBOR_UINT}};
    const struct cbor_field *off = &fields[0];
    const struct cbor_field *data = &fields[1];
    const struct cbor_field *len = &fields[2];
    const struct cbor_field *sha = &fields[3];
    if (!cbor_read_map(request->map, request->size, fields, 5)) {
        return -SMP_EINVAL;
    }
    if (!off->present || !data->present || off->number > IMAGE_SLOT) {
        return IMAGE_INVALID_OFFSET;
    }
    /* There is one image; "1" is what clients write that mean the second slot by it. */
    if (fields[4].number > 1) {
        return IMAGE_INVALID_SLOT;
    }
    uint32_t next = 0;
    bool matches = true;
    int rc = IMAGE_OK;
    if (off->number == 0) {
        if (!len->present) {
            return IMAGE_INVALID_LENGTH;
        }
        if (sha->present && sha->size != IMAGE_HASH) {
            return IMAGE_INVALID_HASH;
        }
        uint32_t size = len->number > UINT32_MAX ? UINT32_MAX : (uint32_t)len->number;
        rc = image_upload_begin(size, sha->present ? sha->bytes : NULL, data->bytes, data->size, &next);
    }
    if (rc == IMAGE_OK) {
        rc = image_upload((uint32_t)off->number, data->bytes, data->size, &next, &matches);
    }
    if (rc != IMAGE_OK) {
        return rc == IMAGE_NOT_SIGNED ? -SMP_EACCESSDENIED : rc;
    }
    cbor_map(response, matches ? 1 : 2);
    cbor_text(response, "off");
    cbor_uint(response, next);
    if (!matches) {
        write_flag(response, "match", false);
    }
    return IMAGE_OK;
}

static int erase(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field slot = {.key = "slot", .type = CBOR_UINT};
    if (!cbor_read_map(request->map, request->size, &slot, 1)) {
        return -SMP_EINVAL;
    }
    if (slot.present && slot.number != 1) {
        return IMAGE_INVALID_SLOT;
    }
    int rc = image_erase();
    if (rc == IMAGE_OK) {
        cbor_map(response, 0);
    }
    return rc;
}

int group_image(const struct smp_request *request, struct cbor_writer *response)
{
    if (request->command == STATE) {
        return request->op == SMP_READ ? write_state(response) : mark(request, response);
    }
    if (request->command == UPLOAD && request->op == SMP_WRITE) {
        return upload(request, response);
    }
    if (request->command == ERASE && request->op == SMP_WRITE) {
        return erase(request, response);
    }
    return -SMP_ENOTSUP;
}

enum smp_error group_image_version1(int rc)
{
    switch (rc) {
    case IMAGE_NO_IMAGE:
    case IMAGE_HASH_NOT_FOUND:
        return SMP_ENOENT;
    case IMAGE_NO_FREE_SLOT:
        return SMP_ENOMEM;
    case IMAGE_TEST_OF_ACTIVE_DENIED:
        return SMP_EBADSTATE;
    case IMAGE_UNKNOWN:
    case IMAGE_FLASH_READ_FAILED:
    case IMAGE_FLASH_WRITE_FAILED:
    case IMAGE_FLASH_ERASE_FAILED:
        return SMP_EUNKNOWN;
    default:
        return SMP_EINVAL;
    }
}
