/* SPDX-License-Identifier: Apache-2.0 */
/* Who a virtual modem is. UUID and IMEI come from the hardware id: one that is a UUID is the device UUID. The identity
 * key is made at the first boot, where a real modem has it from its maker. */
#ifndef NRF91_IDENTITY_H
#define NRF91_IDENTITY_H

#include "statement.h"

enum { NRF91_IMEI = 16, NRF91_UUID = 37 }; /* characters, with their terminating zero */
enum { NRF91_DEVICE_KEY = 6 };             /* type of the identity key among the credentials */
#define NRF91_IDENTITY_TAG 4294967294u

struct nrf91_identity {
    struct identity who;
    char imei[NRF91_IMEI];
    char uuid[NRF91_UUID];
};

bool nrf91_identity(struct nrf91_identity *modem, const char *firmware);

#endif
