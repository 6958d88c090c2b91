/* SPDX-License-Identifier: Apache-2.0 */
#include "personas.h"

#include <string.h>

static const struct persona *const all[] = {
    &persona_nrf91,
    &persona_nrf91_shell,
    &persona_nrf91_old,
    &persona_zephyr_shell,
    &persona_zephyr_shell_noisy,
    &persona_home_made,
};

const struct persona *persona_named(const char *name)
{
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}
