/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the modem's persona share. */
#ifndef NRF91_H
#define NRF91_H

#include <stdbool.h>
#include <stdint.h>

#include "nrf91_identity.h"
#include "vault.h"

enum {
    NRF91_ROOT_CA = 0,
    NRF91_CLIENT_CERTIFICATE = 1,
    NRF91_CLIENT_KEY = 2,
    NRF91_ENDORSEMENT_KEY = 8,
    NRF91_LAST_TYPE = 11,
};
#define NRF91_LAST_TAG 2147483647u /* higher ones belong to the modem */

/* What a command comes to: a number of +CME ERROR, or one of the first two. */
enum nrf91_outcome {
    NRF91_DONE = 0,
    NRF91_FAILED = 1, /* a plain ERROR */
    NRF91_BAD_PARAMETERS = 50,
    NRF91_NOT_FOUND = 513,
    NRF91_NO_ACCESS = 514,
    NRF91_MEMORY_FULL = 515,
    NRF91_ACTIVE = 518,
    NRF91_ALREADY_EXISTS = 519,
    NRF91_KEYGEN_FAILED = 523,
};

/* nrf91_credentials.c: AT%CMNG=`value`. `is_active`: the radio is on. */
enum nrf91_outcome nrf91_manage(const char *value, bool is_active);
enum nrf91_outcome nrf91_outcome_of(enum vault_rc rc);

/* nrf91_keygen.c: AT%KEYGEN=`value`. `is_old`: CSRs have NULL parameters. */
enum nrf91_outcome nrf91_keygen(const struct nrf91_identity *id, const char *value, bool is_active, bool is_old);

#endif
