/* SPDX-License-Identifier: Apache-2.0 */
/* SMP, the Simple Management Protocol: an 8-byte header and one CBOR map, a request and its response.
 *
 *     op and version(1)  flags(1)  length of the map(2)  group(2)  sequence(1)  command(1)       big endian */
#ifndef SMP_H
#define SMP_H

#include <stddef.h>
#include <stdint.h>

#include "cbor.h"

enum { SMP_HEADER = 8 };
enum { SMP_READ = 0, SMP_WRITE = 2 };
enum { SMP_GROUP_OS = 0, SMP_GROUP_IMAGE = 1, SMP_GROUP_PROVISIONING = 80 };

struct smp_request {
    uint8_t op; /* SMP_READ or SMP_WRITE */
    uint8_t version; /* 0: SMP version 1, 1: version 2 */
    uint8_t sequence;
    uint8_t command;
    uint16_t group;
    const uint8_t *map;
    size_t size;
};

/* Codes of the protocol itself; they stand in "rc" whatever the version. */
enum smp_error {
    SMP_EUNKNOWN = 1,
    SMP_ENOMEM = 2,
    SMP_EINVAL = 3,
    SMP_ENOENT = 5,
    SMP_EBADSTATE = 6,
    SMP_EMSGSIZE = 7,
    SMP_ENOTSUP = 8,
    SMP_ECORRUPT = 9,
    SMP_EACCESSDENIED = 11,
};

/* What a group's handler returns: 0, a code of the group (> 0), or one of the protocol's made negative. */
typedef int smp_handler(const struct smp_request *request, struct cbor_writer *response);

smp_handler group_os;
smp_handler group_image;
smp_handler group_provisioning;
/* The code of SMP version 1 that says most nearly the same as the group's. */
typedef enum smp_error smp_version1(int rc);
smp_version1 group_os_version1;
smp_version1 group_image_version1;
smp_version1 group_provisioning_version1;

/* What a program serves: a bootloader less than an application. */
struct smp_group {
    uint16_t number;
    smp_handler *handler;
    smp_version1 *version1;
};
struct smp_service {
    const struct smp_group *groups;
    size_t count;
};

/* Answer a message. Returns the size of the response, 0: none is due. `*outcome`: what the handler returned. */
size_t smp_answer(const struct smp_service *service, const uint8_t *message, size_t size, uint8_t *response,
                  size_t room, struct smp_request *request, int *outcome);

#endif
