/* SPDX-License-Identifier: Apache-2.0 */
#include "../../core/port.h"
#include "board.h"

#define AIRCR REGISTER(0xe000ed0c)

void port_reset(void)
{
    AIRCR = 0x05fa0004; /* SYSRESETREQ */
    for (;;) {
    }
}
