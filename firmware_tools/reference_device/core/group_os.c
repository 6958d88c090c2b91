/* SPDX-License-Identifier: Apache-2.0 */
/* Group 0, operating system: echo, reset, parameters, bootloader information. */
#include <string.h>

#include "framing.h"
#include "port.h"
#include "server.h"
#include "smp.h"

enum { ECHO = 0, RESET = 5, PARAMETERS = 6, BOOTLOADER = 8 };
enum { NO_ANSWER_TO_QUERY = 3 }; /* a code of the group */
enum { MODE_RAM_LOADER = 6 };    /* of MCUboot's: an image is copied to where it runs, from whichever slot */

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
    server_reset_later();
    cbor_map(response, 0);
    return 0;
}

static int parameters(struct cbor_writer *response)
{
    cbor_map(response, 2);
    cbor_text(response, "buf_size");
    cbor_uint(response, FRAMING_MESSAGE_MAX);
    cbor_text(response, "buf_count");
    cbor_uint(response, port_uart_requests());
    return 0;
}

static bool is_text(const struct cbor_field *field, const char *text)
{
    return field->size == strlen(text) && memcmp(field->bytes, text, field->size) == 0;
}

/* Which bootloader, and, if asked for: its "version" (ours to define), or its "mode" as MCUboot tells it. */
static int bootloader(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field query = {.key = "query", .type = CBOR_TEXT};
    if (!cbor_read_map(request->map, request->size, &query, 1)) {
        return -SMP_EINVAL;
    }
    bool version = query.present && is_text(&query, "version");
    bool mode = query.present && is_text(&query, "mode");
    if (query.present && !version && !mode) {
        return NO_ANSWER_TO_QUERY;
    }
    cbor_map(response, query.present ? 2 : 1);
    cbor_text(response, "bootloader");
    cbor_text(response, "reference-device");
    if (query.present) {
        cbor_text(response, "response");
    }
    if (version) {
        cbor_text(response, port_bootloader());
    }
    if (mode) {
        cbor_map(response, 2);
        cbor_text(response, "mode");
        cbor_uint(response, MODE_RAM_LOADER);
        cbor_text(response, "no-downgrade");
        cbor_bool(response, port_image_key() != NULL);
    }
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
    if (request->command == BOOTLOADER && request->op == SMP_READ && port_bootloader() != NULL) {
        return bootloader(request, response);
    }
    return -SMP_ENOTSUP;
}

enum smp_error group_os_version1(int rc)
{
    return rc == NO_ANSWER_TO_QUERY ? SMP_ENOENT : SMP_EUNKNOWN;
}
