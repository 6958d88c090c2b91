/* SPDX-License-Identifier: Apache-2.0 */
/* The random number generator in the SCU. A word that comes again at once is no randomness: the chance of an honest one
 * is 2^-32 (the repetition count test of SP 800-90B 4.4.1, at its strictest). */
#include "../../core/port.h"
#include "board.h"

#define RANDOM REGISTER(0x7e6e2540)

bool port_entropy(uint8_t *to, size_t size)
{
    static uint32_t previous;
    while (size > 0) {
        uint32_t word = RANDOM;
        if (word == previous) {
            return false;
        }
        previous = word;
        for (int i = 0; i < 4 && size > 0; i++, size--) {
            *to++ = (uint8_t)(word >> (8 * i));
        }
    }
    return true;
}
