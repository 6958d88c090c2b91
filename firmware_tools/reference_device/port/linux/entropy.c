/* SPDX-License-Identifier: Apache-2.0 */
/* Randomness from the kernel; in a test build, a fixed sequence. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/random.h>

#include "../../core/port.h"

#ifdef TEST_ENTROPY
/* The same on every start: keys made with it are public knowledge. Only the example in docs/protocol.md is made so. */
bool port_entropy(uint8_t *to, size_t size)
{
    static uint32_t state = TEST_ENTROPY;
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = (uint8_t)(state >> 24);
    }
    return true;
}
#else
bool port_entropy(uint8_t *to, size_t size)
{
    while (size > 0) {
        ssize_t got = getrandom(to, size, 0);
        if (got < 0 && errno != EINTR) {
            return false;
        }
        if (got > 0) {
            to += got;
            size -= (size_t)got;
        }
    }
    return true;
}
#endif
