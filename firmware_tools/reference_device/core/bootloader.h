/* SPDX-License-Identifier: Apache-2.0 */
/* The bootloader: runs what is signed and not older than what was confirmed, or waits for an image.
 *
 * The port calls bootloader_boot() after power-on and after each reset, and does what it says. In recovery it hands
 * what its UART received to server_receive(): echo, reset, parameters, bootloader information, list and upload of images. */
#ifndef BOOTLOADER_H
#define BOOTLOADER_H

#define BOOTLOADER_VERSION "1.0.0"

enum bootloader_verdict {
    BOOTLOADER_FAILED,  /* this board can't work */
    BOOTLOADER_RECOVER, /* there is nothing to run */
    BOOTLOADER_RUN,     /* start image_in_slot(0), which lies in image_running_slot() */
};

enum bootloader_verdict bootloader_boot(void);

#endif
