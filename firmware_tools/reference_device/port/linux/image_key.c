/* SPDX-License-Identifier: Apache-2.0 */
/* The key for images, out of a file: this board's one-time programmable memory. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../../core/crypto.h"
#include "../../core/port.h"
#include "../../persona/base64.h"
#include "linux_port.h"

static const char begin[] = "-----BEGIN PUBLIC KEY-----";
static const char end[] = "-----END PUBLIC KEY-----";

static uint8_t key[CRYPTO_POINT];
static bool present;

const uint8_t *port_image_key(void)
{
    return present ? key : NULL;
}

/* Take the lines between the two markers together. */
static size_t strip(const char *text, char *to)
{
    size_t size = 0;
    for (; *text != '\0' && strncmp(text, end, sizeof end - 1) != 0; text++) {
        if (*text != '\n' && *text != '\r') {
            to[size++] = *text;
        }
    }
    return size;
}

void image_key_read(const char *path)
{
    enum { FILE_MAX = 1024 };
    char content[FILE_MAX + 1] = {0};
    char text[FILE_MAX];
    uint8_t der[FILE_MAX];
    uint8_t spki[CRYPTO_SPKI];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail(path, true);
    }
    size_t size = fread(content, 1, FILE_MAX, file);
    (void)fclose(file);
    if (size == CRYPTO_POINT && content[0] == 4) {
        memcpy(key, content, sizeof key);
        present = true;
        return;
    }
    const char *at = strstr(content, begin);
    if (at != NULL && base64_decode(text, strip(at + sizeof begin - 1, text), der, &size) && size == CRYPTO_SPKI) {
        memcpy(key, der + CRYPTO_SPKI - CRYPTO_POINT, sizeof key);
        crypto_spki(key, spki); /* the head is the same for every key of P-256 */
        present = memcmp(spki, der, sizeof spki) == 0;
    }
    if (!present) {
        fprintf(stderr, "reference-device: %s is no public key of P-256: give PEM, or the 65 bytes of its point\n", path);
        fail("--image-key can't be used", false);
    }
}
