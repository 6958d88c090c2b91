/* SPDX-License-Identifier: Apache-2.0 */
/* "O=Acme,CN=dev1": the subject that a command wishes for. No commas in values. */
#ifndef SUBJECT_H
#define SUBJECT_H

#include <stdbool.h>
#include <stddef.h>

#include "../core/crypto.h"

enum { SUBJECT_ATTRIBUTES = 8 };

/* Split a text of `size` characters; the values stay where they are. False: it is no such text. */
bool subject_read(const char *text, size_t size, struct crypto_attribute to[SUBJECT_ATTRIBUTES], size_t *count);

#endif
