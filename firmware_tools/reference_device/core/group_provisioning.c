/* SPDX-License-Identifier: Apache-2.0 */
/* Group 80, provisioning: what stands in docs/protocol.md. The forms of requests are checked here; what may be
 * done when is decided in credentials.c. */
#include <string.h>

#include "credentials.h"
#include "crypto.h"
#include "framing.h"
#include "image.h"
#include "port.h"
#include "smp.h"

enum { IDENT = 0, CSR = 1, CHAIN = 2, PROVE = 3, LOCK = 4 };
enum { PROTOCOL_VERSION = 1 };
enum { HEADS = 80 }; /* room for a response's header and everything but its data */
enum { PIECE_MAX = FRAMING_MESSAGE_MAX - SMP_HEADER - HEADS };

static size_t piece_size(size_t whole, size_t offset)
{
    return whole - offset < PIECE_MAX ? whole - offset : PIECE_MAX;
}

static int ident(const struct smp_request *request, struct cbor_writer *response)
{
    if (!cbor_read_map(request->map, request->size, NULL, 0)) {
        return PROVISIONING_BAD_REQUEST;
    }
    uint8_t leaf[CRYPTO_SHA256];
    bool has_leaf = credentials_chain_size() > 0;
    if (has_leaf && !credentials_leaf_digest(leaf)) {
        return PROVISIONING_STORAGE;
    }
    const struct image *running = image_in_slot(0);
    cbor_map(response, has_leaf ? 8 : 7);
    cbor_text(response, "v");
    cbor_uint(response, PROTOCOL_VERSION);
    cbor_text(response, "hw");
    cbor_text(response, port_hardware_id());
    cbor_text(response, "model");
    cbor_text(response, port_model());
    cbor_text(response, "fw");
    cbor_text(response, running->version);
    cbor_text(response, "img");
    cbor_bytes(response, running->hash, IMAGE_HASH);
    cbor_text(response, "st");
    cbor_uint(response, (uint64_t)credentials_state());
    cbor_text(response, "buf");
    cbor_uint(response, FRAMING_MESSAGE_MAX);
    if (has_leaf) {
        cbor_text(response, "leaf");
        cbor_bytes(response, leaf, sizeof leaf);
    }
    return PROVISIONING_OK;
}

static int csr(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field off = {.key = "off", .type = CBOR_UINT};
    if (!cbor_read_map(request->map, request->size, &off, 1) || !off.present) {
        return PROVISIONING_BAD_REQUEST;
    }
    const uint8_t *bytes;
    size_t size;
    int rc = credentials_csr(&bytes, &size);
    if (rc != PROVISIONING_OK) {
        return rc;
    }
    if (off.number >= size) {
        return PROVISIONING_BAD_OFFSET;
    }
    size_t offset = (size_t)off.number;
    cbor_map(response, 3);
    cbor_text(response, "len");
    cbor_uint(response, size);
    cbor_text(response, "off");
    cbor_uint(response, offset);
    cbor_text(response, "data");
    cbor_bytes(response, bytes + offset, piece_size(size, offset));
    return PROVISIONING_OK;
}

static int write_chain(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field fields[] = {{.key = "off", .type = CBOR_UINT},
                                  {.key = "data", .type = CBOR_BYTES},
                                  {.key = "len", .type = CBOR_UINT},
                                  {.key = "sha", .type = CBOR_BYTES}};
    const struct cbor_field *off = &fields[0];
    const struct cbor_field *data = &fields[1];
    const struct cbor_field *len = &fields[2];
    const struct cbor_field *sha = &fields[3];
    if (!cbor_read_map(request->map, request->size, fields, 4) || !off->present || !data->present ||
        data->size == 0) {
        return PROVISIONING_BAD_REQUEST;
    }
    if (off->number > CREDENTIALS_CHAIN_MAX) {
        return PROVISIONING_BAD_OFFSET;
    }
    int rc = PROVISIONING_OK;
    if (off->number == 0) {
        if (!len->present || len->number == 0 || !sha->present || sha->size != CRYPTO_SHA256) {
            return PROVISIONING_BAD_REQUEST;
        }
        size_t size = len->number > CREDENTIALS_CHAIN_MAX ? CREDENTIALS_CHAIN_MAX + 1 : (size_t)len->number;
        rc = credentials_chain_begin(size, sha->bytes);
    } else if (len->present || sha->present) {
        return PROVISIONING_BAD_REQUEST;
    }
    size_t next = 0;
    if (rc == PROVISIONING_OK) {
        rc = credentials_chain_add((size_t)off->number, data->bytes, data->size, &next);
    }
    if (rc != PROVISIONING_OK) {
        return rc;
    }
    cbor_map(response, 1);
    cbor_text(response, "off");
    cbor_uint(response, next);
    return PROVISIONING_OK;
}

static int read_chain(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field fields[] = {{.key = "off", .type = CBOR_UINT}, {.key = "max", .type = CBOR_UINT}};
    const struct cbor_field *off = &fields[0];
    const struct cbor_field *max = &fields[1];
    if (!cbor_read_map(request->map, request->size, fields, 2) || !off->present ||
        (max->present && max->number == 0)) {
        return PROVISIONING_BAD_REQUEST;
    }
    size_t whole = credentials_chain_size();
    if (whole == 0) {
        return PROVISIONING_WRONG_STATE;
    }
    if (off->number >= whole) {
        return PROVISIONING_BAD_OFFSET;
    }
    size_t offset = (size_t)off->number;
    size_t size = piece_size(whole, offset);
    if (max->present && max->number < size) {
        size = (size_t)max->number;
    }
    uint8_t digest[CRYPTO_SHA256];
    if (offset == 0 && !credentials_chain_digest(whole, digest)) {
        return PROVISIONING_STORAGE;
    }
    cbor_map(response, offset == 0 ? 4 : 3);
    cbor_text(response, "len");
    cbor_uint(response, whole);
    cbor_text(response, "off");
    cbor_uint(response, offset);
    cbor_text(response, "data");
    uint8_t *to = cbor_bytes_space(response, size);
    if (to != NULL && !credentials_chain_read(offset, to, size)) {
        return PROVISIONING_STORAGE;
    }
    if (offset == 0) {
        cbor_text(response, "sha");
        cbor_bytes(response, digest, sizeof digest);
    }
    return PROVISIONING_OK;
}

static int prove(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field nonce = {.key = "nonce", .type = CBOR_BYTES};
    if (!cbor_read_map(request->map, request->size, &nonce, 1) || !nonce.present || nonce.size != CREDENTIALS_NONCE) {
        return PROVISIONING_BAD_REQUEST;
    }
    uint8_t signature[CRYPTO_SIGNATURE_MAX];
    size_t size;
    int rc = credentials_prove(nonce.bytes, signature, &size);
    if (rc != PROVISIONING_OK) {
        return rc;
    }
    cbor_map(response, 1);
    cbor_text(response, "sig");
    cbor_bytes(response, signature, size);
    return PROVISIONING_OK;
}

static int lock(const struct smp_request *request, struct cbor_writer *response)
{
    struct cbor_field locks = {.key = "locks", .type = CBOR_UINT};
    bool write = request->op == SMP_WRITE;
    if (!cbor_read_map(request->map, request->size, &locks, write ? 1 : 0) || (write && !locks.present)) {
        return PROVISIONING_BAD_REQUEST;
    }
    if (write) {
        int rc = credentials_lock(locks.number);
        if (rc != PROVISIONING_OK) {
            return rc;
        }
    }
    cbor_map(response, 1);
    cbor_text(response, "locks");
    cbor_uint(response, credentials_locks());
    return PROVISIONING_OK;
}

int group_provisioning(const struct smp_request *request, struct cbor_writer *response)
{
    bool write = request->op == SMP_WRITE;
    switch (request->command) {
    case IDENT:
        return write ? -SMP_ENOTSUP : ident(request, response);
    case CSR:
        return write ? csr(request, response) : -SMP_ENOTSUP;
    case CHAIN:
        return write ? write_chain(request, response) : read_chain(request, response);
    case PROVE:
        return write ? prove(request, response) : -SMP_ENOTSUP;
    case LOCK:
        return lock(request, response);
    default:
        return -SMP_ENOTSUP;
    }
}

enum smp_error group_provisioning_version1(int rc)
{
    switch (rc) {
    case PROVISIONING_BAD_REQUEST:
    case PROVISIONING_BAD_OFFSET:
    case PROVISIONING_CHAIN_MALFORMED:
    case PROVISIONING_WRONG_KEY:
    case PROVISIONING_BROKEN_LINK:
        return SMP_EINVAL;
    case PROVISIONING_WRONG_STATE:
        return SMP_EBADSTATE;
    case PROVISIONING_TOO_LARGE:
        return SMP_ENOMEM;
    case PROVISIONING_DIGEST_MISMATCH:
        return SMP_ECORRUPT;
    case PROVISIONING_IS_LOCKED:
        return SMP_EACCESSDENIED;
    default:
        return SMP_EUNKNOWN;
    }
}
