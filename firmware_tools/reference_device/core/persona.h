/* SPDX-License-Identifier: Apache-2.0 */
/* Another language on the same board. Key store, flash and cryptography stay; what the console speaks is a persona's.
 *
 * A product speaks SMP and needs none of this. Personas are here so that a station can be tested against the languages
 * of boards that exist. A new one is a file in persona/ and a line in persona/personas.c. */
#ifndef PERSONA_H
#define PERSONA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct persona {
    const char *name;
    /* Called at each boot, once store and cryptography work. False: this board can't work. */
    bool (*boot)(void);
    /* Take bytes from the UART, and answer; pieces are of any size. */
    void (*receive)(const uint8_t *bytes, size_t size);
};

#endif
