/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the Zephyr shell's persona share. */
#ifndef ZEPHYR_H
#define ZEPHYR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ZEPHYR_TAG = 16842753 }; /* used where a command names no security tag */
enum { ZEPHYR_ARGUMENTS = 8 };
enum { ZEPHYR_CTRL_C = 3 };

/* Types of credentials, as numbers in the vault. */
enum { ZEPHYR_CA = 0, ZEPHYR_SERV = 1, ZEPHYR_PK = 2, ZEPHYR_PSK = 3, ZEPHYR_PSK_ID = 4, ZEPHYR_PK_PSA = 5 };
/* The key itself: it is in no list, and no command shows it. */
enum { ZEPHYR_DEVICE_KEY = 6 };

/* zephyr_shell.c: printing, with the noise that this board makes. */
void zephyr_print(const char *text);
void zephyr_print_sized(const char *text, size_t size);
void zephyr_print_number(uint32_t number);
/* The parts, up to NULL, CR and LF. */
void zephyr_print_line(const char *first, ...);
/* A line of log, as the shell's log backend writes it. */
void zephyr_log(const char *text);
bool zephyr_read_tag(const char *text, uint32_t *tag);
/* The board's own id in hexadecimal digits: what `hwinfo devid` prints behind 0x. */
const char *zephyr_device_id(void);

/* zephyr_cred.c: `cred`. `room`: of the credential buffer. `loads`: it knows `cred buf load`. */
void zephyr_cred_boot(size_t room, bool loads);
void zephyr_cred(size_t count, char *words[]);
/* While `cred buf load` runs, bytes go here and not to the shell. */
bool zephyr_cred_is_loading(void);
void zephyr_cred_load(uint8_t byte);

/* zephyr_key.c: `nrf_cloud_cred`. */
void zephyr_key(size_t count, char *words[]);

#endif
