/* SPDX-License-Identifier: Apache-2.0 */
/* Group 0, operating system: echo, reset, parameters. */
#include "device.h"
#include "framing.h"
#include "smp.h"

enum { ECHO = 0, RESET = 5, PARAMETERS = 6 };

static int echo(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field text = {.key = "d", .type = CBOR_TEXT};
    if (!cbor_read_map(request->map, request->size, &text, 1) || !text.present) {
        return -SMP_EINVAL;
    }
    cbor_map(response, 1);
    cbor_text(response, "r");
    cbor_text_sized(response, text.bytes, text.size);
    return 0;
}

static int reset(const struct smp_request *request, struct cbor_writer *response)
{
    /* "force" and "boot_mode" are passed over: nothing here refuses a reset, and there is one way to boot. */
    if (request->size > 0 && !cbor_read_map(request->map, request->size, NULL, 0)) {
        return -SMP_EINVAL;
    }
    device_reset_later();
    cbor_map(response, 0);
    return 0;
}

static int parameters(struct cbor_writer *response)
{
    cbor_map(response, 2);
    cbor_text(response, "buf_size");
    cbor_uint(response, FRAMING_MESSAGE_MAX);
    cbor_text(response, "buf_count");
    cbor_uint(response, 1);
    return 0;
}

int group_os(const struct smp_request *request, struct cbor_writer *response)
{
    if (request->command == ECHO && request->op == SMP_WRITE) {
        return echo(request, response);
    }
    if (request->command == RESET && request->op == SMP_WRITE) {
        return reset(request, response);
    }
    if (request->command == PARAMETERS && request->op == SMP_READ) {
        return parameters(response);
    }
    return -SMP_ENOTSUP;
}
