/* SPDX-License-Identifier: Apache-2.0 */
/* The reference device as a Linux process: one board. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../core/bootloader.h"
#include "../../core/credentials.h"
#include "../../core/device.h"
#include "../../core/framing.h"
#include "../../core/port.h"
#include "../../core/server.h"
#include "../../persona/personas.h"
#include "linux_port.h"

static const char usage[] =
    "Usage: reference-device --storage DIR --hardware-id ID (--fd N | --pty LINK) [options]\n"
    "\n"
    "A board that speaks SMP with the provisioning group on its console UART.\n"
    "\n"
    "  --storage DIR          folder of the board's flash, made if missing (DIR/flash.bin, mode 0600)\n"
    "  --hardware-id ID       1 to 64 of [0-9A-Za-z._:-]\n"
    "  --model MODEL          product model, 1 to 32 printable characters (default: reference-device)\n"
    "  --persona NAME         speak another language than SMP: nrf91, nrf91-shell, nrf91-old, zephyr-shell, zephyr-shell-noisy, home-made\n"
    "  --bootloader           a bootloader starts first: it runs images that are signed by the image key and not older\n"
    "                         than what was confirmed; a blank board stays in serial recovery\n"
    "  --image-key FILE       that key: public, of P-256, as PEM or as the 65 bytes of its point\n"
    "  --fd N                 the UART is this file descriptor: pty master, socket, tty; is set non-blocking\n"
    "  --pty LINK             make a pseudo-terminal; LINK becomes a symbolic link to its tty\n"
    "  --line N               characters in a line that is sent: 127 (default) as SMP has it, up to 4096\n"
    "  --raw                  SMP without lines of base64, and nothing else on the console\n"
    "  --quiet                no log on the console while booting\n"
    "  --trace FILE           append a JSON line for each request: group, id, op, in, out (bytes), us (CPU), rc\n"
    "  --die-with-parent      end when the thread that started it ends\n"
    "  --die-after-writes N   cut the power in the middle of the Nth flash operation from start\n"
    "  --torn K               ... after K of its bytes (default: half of them)\n"
    "  --die-in-state K       cut the power once the board has come to state K (1 keyed, 2 provisioned, 3 locked),\n"
    "                         before it says so; a board that starts in K or beyond lives\n"
    "\n"
    "Example: reference-device --storage /tmp/board1 --hardware-id 0001 --pty /tmp/board\n";

static struct {
    const char *storage;
    const char *hardware_id;
    const char *model;
    const char *link;
    const char *image_key;
    long fd;
    bool quiet;
    bool bootloader;
} options = {.model = "reference-device", .fd = -1};

static bool debug_closed;
static bool restart;
static bool in_recovery;

const char *port_hardware_id(void)
{
    return options.hardware_id;
}

const char *port_model(void)
{
    return options.model;
}

const char *port_bootloader(void)
{
    return options.bootloader ? BOOTLOADER_VERSION : NULL;
}

/* This board's debug port is a variable: closed by software at each boot, as parts without fuses do it. */
bool port_close_debug(void)
{
    debug_closed = true;
    return true;
}

bool port_debug_is_closed(void)
{
    return debug_closed;
}

void port_reset(void)
{
    restart = true;
}

void port_log(const char *text)
{
    if (!options.quiet) {
        port_uart_write((const uint8_t *)text, strlen(text));
        port_uart_write((const uint8_t *)"\r\n", 2);
        port_uart_flush();
    }
}

static long number(const char *name, const char *text, long least, long most)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "reference-device: --%s takes a number from %ld to %ld, not '%s'\n", name, least, most, text);
        exit(2);
    }
    return value;
}

static void check_text(const char *name, const char *text, size_t most, const char *others)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!plain && (others == NULL ? c < ' ' || c > '~' : strchr(others, c) == NULL)) {
            size = most + 1;
        }
    }
    if (size == 0 || size > most) {
        fprintf(stderr, "reference-device: --%s takes 1 to %zu characters%s\n", name, most,
                others == NULL ? " of printable ASCII" : " from [0-9A-Za-z._:-]");
        exit(2);
    }
}

static void speak(const char *name)
{
    const struct persona *persona = persona_named(name);
    if (persona == NULL) {
        fprintf(stderr, "reference-device: there is no persona '%s'; --help names them\n", name);
        exit(2);
    }
    device_speak(persona);
}

static void parse(int count, char **arguments)
{
    enum { STORAGE = 1, HARDWARE_ID, MODEL, PERSONA, BOOTLOADER, IMAGE_KEY, FD, PTY, LINE, RAW, QUIET, TRACE,
           DIE_WITH_PARENT, DIE_AFTER_WRITES, TORN, DIE_IN_STATE, HELP };
    static const struct option known[] = {
        {"storage", required_argument, NULL, STORAGE},
        {"hardware-id", required_argument, NULL, HARDWARE_ID},
        {"model", required_argument, NULL, MODEL},
        {"persona", required_argument, NULL, PERSONA},
        {"bootloader", no_argument, NULL, BOOTLOADER},
        {"image-key", required_argument, NULL, IMAGE_KEY},
        {"fd", required_argument, NULL, FD},
        {"pty", required_argument, NULL, PTY},
        {"line", required_argument, NULL, LINE},
        {"raw", no_argument, NULL, RAW},
        {"quiet", no_argument, NULL, QUIET},
        {"trace", required_argument, NULL, TRACE},
        {"die-with-parent", no_argument, NULL, DIE_WITH_PARENT},
        {"die-after-writes", required_argument, NULL, DIE_AFTER_WRITES},
        {"torn", required_argument, NULL, TORN},
        {"die-in-state", required_argument, NULL, DIE_IN_STATE},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    const long most = 1000000000;
    long operation = 0;
    long torn = -1;
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
        switch (option) {
        case STORAGE:
            options.storage = optarg;
            break;
        case HARDWARE_ID:
            check_text("hardware-id", optarg, 64, "._:-");
            options.hardware_id = optarg;
            break;
        case MODEL:
            check_text("model", optarg, 32, NULL);
            options.model = optarg;
            break;
        case PERSONA:
            speak(optarg);
            break;
        case BOOTLOADER:
            options.bootloader = true;
            break;
        case IMAGE_KEY:
            options.image_key = optarg;
            break;
        case FD:
            options.fd = number("fd", optarg, 0, most);
            break;
        case PTY:
            options.link = optarg;
            break;
        case LINE:
            server_set_line((size_t)number("line", optarg, 8, 4096));
            break;
        case RAW:
            server_set_raw(true);
            options.quiet = true;
            break;
        case QUIET:
            options.quiet = true;
            break;
        case TRACE:
            trace_open(optarg);
            break;
        case DIE_WITH_PARENT:
            death_with_parent();
            break;
        case DIE_AFTER_WRITES:
            operation = number("die-after-writes", optarg, 1, most);
            break;
        case TORN:
            torn = number("torn", optarg, 0, most);
            break;
        case DIE_IN_STATE:
            death_in_state(number("die-in-state", optarg, STATE_KEYED, STATE_LOCKED));
            break;
        case HELP:
            (void)fputs(usage, stdout);
            exit(0);
        default:
            (void)fputs(usage, stderr);
            exit(2);
        }
    }
    if (options.storage == NULL || options.hardware_id == NULL || optind != count ||
        (options.fd < 0) == (options.link == NULL) || options.bootloader != (options.image_key != NULL)) {
        (void)fputs(usage, stderr);
        exit(2);
    }
    if (options.image_key != NULL) {
        image_key_read(options.image_key);
    }
    flash_cut_power(operation, torn);
}

static void stop(int signal_number)
{
    (void)signal_number;
    uart_remove_link();
    _exit(0);
}

/* What the reset vector does. */
static void boot(void)
{
    enum bootloader_verdict verdict = options.bootloader ? bootloader_boot() : BOOTLOADER_RUN;
    in_recovery = verdict == BOOTLOADER_RECOVER;
    if (verdict == BOOTLOADER_FAILED || (verdict == BOOTLOADER_RUN && !device_boot())) {
        fail("the board can't boot from this storage", false);
    }
}

int main(int count, char **arguments)
{
    parse(count, arguments);
    (void)signal(SIGPIPE, SIG_IGN);
    flash_open(options.storage);
    if (options.link != NULL) {
        (void)signal(SIGINT, stop);
        (void)signal(SIGTERM, stop);
        options.fd = uart_make_pty(options.link);
    }
    uart_open((int)options.fd);
    boot();
    death_ahead();
    trace_start();
    for (;;) {
        unsigned char bytes[4096];
        long got = uart_read(bytes, sizeof bytes, server_awaits_silence() ? FRAMING_SILENCE_MS : -1);
        if (got == UART_CLOSED) {
            return 0;
        }
        if (got == UART_TIMEOUT) {
            server_silence();
        } else if (in_recovery) {
            server_receive(bytes, (size_t)got);
        } else {
            device_receive(bytes, (size_t)got);
        }
        if (restart) {
            restart = false;
            debug_closed = false;
            boot();
        }
    }
}
