/* SPDX-License-Identifier: Apache-2.0 */
/* The console UART: a pty whose tty the station opens, or a socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "../../core/port.h"
#include "linux_port.h"

enum { UNREAD_MS = 2000 }; /* how long output waits for a reader before it is lost, as on a wire */
enum { NOBODY_MS = 20 };

static int uart = -1;
static uint8_t out[4096];
static size_t out_size;
static char link_path[4096];
static char link_target[64]; /* where it led when we made it */

void uart_open(int fd)
{
    uart = fd;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        fail("the UART's file descriptor can't be used", true);
    }
    struct termios line;
    if (tcgetattr(fd, &line) == 0) { /* or the tty would echo the boot log into our own receiver */
        cfmakeraw(&line);
        (void)tcsetattr(fd, TCSANOW, &line);
    }
    /* A pty master hangs up, without a way to wait, while nobody has its tty open: hold it open ourselves. The
     * kernel keeps what we send until somebody reads. Closed by the kernel with us; not an error if `fd` is no
     * pty. */
    (void)ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

int uart_make_pty(const char *link)
{
    char name[64];
    char beside[sizeof link_path];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0 || ptsname_r(master, name, sizeof name) != 0) {
        fail("no pseudo-terminal", true);
    }
    int length = snprintf(beside, sizeof beside, "%s.%ld", link, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof beside) {
        fail("the name of the link is too long", false);
    }
    char ignored[1];
    if (access(link, F_OK) == 0 && readlink(link, ignored, sizeof ignored) < 0) {
        fail("the name of the link is taken by a file", false);
    }
    if (symlink(name, beside) != 0 || rename(beside, link) != 0) {
        fail(link, true);
    }
    memcpy(link_path, link, strlen(link) + 1);
    memcpy(link_target, name, strlen(name) + 1);
    printf("%s -> %s\n", link, name);
    (void)fflush(stdout);
    return master;
}

void uart_remove_link(void)
{
    char now[sizeof link_target];
    ssize_t length = link_path[0] == '\0' ? -1 : readlink(link_path, now, sizeof now);
    /* Another board may have taken the name meanwhile; its link stays. */
    if (length == (ssize_t)strlen(link_target) && memcmp(now, link_target, (size_t)length) == 0) {
        (void)unlink(link_path);
    }
}

long uart_read(unsigned char *to, size_t size, int milliseconds)
{
    struct pollfd wait = {.fd = uart, .events = POLLIN};
    int ready = poll(&wait, 1, milliseconds);
    if (ready < 0 && errno != EINTR) {
        fail("poll", true);
    }
    if (ready == 0) {
        return UART_TIMEOUT;
    }
    ssize_t got = read(uart, to, size);
    if (got > 0) {
        return got;
    }
    if (got == 0) {
        return UART_CLOSED;
    }
    if (errno == EIO || errno == EAGAIN || errno == EINTR) {
        if ((wait.revents & POLLHUP) != 0) { /* the cable is not open; there is no event that tells when it is */
            const struct timespec pause = {.tv_nsec = NOBODY_MS * 1000000L};
            (void)nanosleep(&pause, NULL);
        }
        return UART_SILENT;
    }
    return UART_CLOSED;
}

unsigned port_uart_requests(void)
{
    return 4; /* the kernel keeps that much, and makes a sender wait that sends more */
}

void port_uart_flush(void)
{
    const uint8_t *from = out;
    before_send();
    while (out_size > 0) {
        ssize_t sent = write(uart, from, out_size);
        if (sent > 0) {
            from += sent;
            out_size -= (size_t)sent;
            continue;
        }
        struct pollfd wait = {.fd = uart, .events = POLLOUT};
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent == 0 || errno != EAGAIN || poll(&wait, 1, UNREAD_MS) <= 0) {
            out_size = 0; /* nobody reads: what a UART sends then is lost */
        }
    }
}

void port_uart_write(const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        if (out_size == sizeof out) {
            port_uart_flush();
        }
        size_t now = size < sizeof out - out_size ? size : sizeof out - out_size;
        memcpy(out + out_size, bytes, now);
        out_size += now;
        bytes += now;
        size -= now;
    }
}
