/* SPDX-License-Identifier: Apache-2.0 */
#include "smp.h"

#include <string.h>

static const struct smp_group *find_group(const struct smp_service *service, uint16_t number)
{
    for (size_t i = 0; i < service->count; i++) {
        if (service->groups[i].number == number) {
            return &service->groups[i];
        }
    }
    return NULL;
}

static void write_error(const struct smp_group *group, const struct smp_request *request, int rc,
                        struct cbor_writer *response)
{
    response->size = 0;
    response->overflow = false;
    if (rc > 0 && request->version > 0) {
        cbor_map(response, 1);
        cbor_text(response, "err");
        cbor_map(response, 2);
        cbor_text(response, "group");
        cbor_uint(response, request->group);
        cbor_text(response, "rc");
        cbor_uint(response, (uint64_t)rc);
    } else {
        cbor_map(response, 1);
        cbor_text(response, "rc");
        cbor_uint(response, rc > 0 ? (uint64_t)group->version1(rc) : (uint64_t)-rc);
    }
}

size_t smp_answer(const struct smp_service *service, const uint8_t *message, size_t size, uint8_t *response,
                  size_t room, struct smp_request *request, int *outcome)
{
    if (size < SMP_HEADER || room < SMP_HEADER) {
        return 0;
    }
    request->op = message[0] & 7;
    request->version = message[0] >> 3 & 3;
    request->group = (uint16_t)(message[4] << 8 | message[5]);
    request->sequence = message[6];
    request->command = message[7];
    request->map = message + SMP_HEADER;
    request->size = size - SMP_HEADER;
    if ((request->op != SMP_READ && request->op != SMP_WRITE) ||
        request->size != (size_t)(message[2] << 8 | message[3])) {
        return 0;
    }
    if (request->version > 1) {
        request->version = 1; /* a newer client: answer with the newest we have */
    }
    struct cbor_writer map = {.bytes = response + SMP_HEADER, .room = room - SMP_HEADER};
    const struct smp_group *group = find_group(service, request->group);
    int rc = group == NULL ? -SMP_ENOTSUP : group->handler(request, &map);
    if (rc == 0 && map.overflow) {
        rc = -SMP_EMSGSIZE;
    }
    if (rc != 0) {
        write_error(group, request, rc, &map);
    }
    *outcome = rc;
    response[0] = (uint8_t)(request->version << 3 | (request->op + 1));
    response[1] = 0;
    response[2] = (uint8_t)(map.size >> 8);
    response[3] = (uint8_t)map.size;
    memcpy(response + 4, message + 4, 4);
    return SMP_HEADER + map.size;
}
