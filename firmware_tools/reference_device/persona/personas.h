/* SPDX-License-Identifier: Apache-2.0 */
/* The personas that this build knows. */
#ifndef PERSONAS_H
#define PERSONAS_H

#include "../core/persona.h"

/* nrf91.c: a Nordic cellular modem; behind a plain AT host, behind the `at` command of a Zephyr shell, and one with old
 * firmware. */
extern const struct persona persona_nrf91;
extern const struct persona persona_nrf91_shell;
extern const struct persona persona_nrf91_old;
/* zephyr_shell.c: a board with a Zephyr shell; and an older one, whose log stands in the middle of lines. */
extern const struct persona persona_zephyr_shell;
extern const struct persona persona_zephyr_shell_noisy;
/* home_made.c: a shell like no other. */
extern const struct persona persona_home_made;

/* Find a persona by its name; NULL: there is none. */
const struct persona *persona_named(const char *name);

#endif
