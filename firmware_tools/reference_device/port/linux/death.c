/* SPDX-License-Identifier: Apache-2.0 */
/* How this process ends before its time: it can't go on, its parent is gone, or it was asked to lose its power. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../../core/credentials.h"
#include "linux_port.h"

static long last_state; /* 0: none */
static bool mortal; /* it has not been in that state yet */

void fail(const char *message, bool with_errno)
{
    if (with_errno) {
        fprintf(stderr, "reference-device: %s: %s\n", message, strerror(errno));
    } else {
        fprintf(stderr, "reference-device: %s\n", message);
    }
    exit(1);
}

void death_with_parent(void)
{
    pid_t parent = getppid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
        exit(1); /* it died between the two lines: nobody is left to want us */
    }
}

void death_in_state(long state)
{
    last_state = state;
}

void death_ahead(void)
{
    mortal = last_state > 0 && (long)credentials_state() < last_state;
}

void before_send(void)
{
    if (mortal && (long)credentials_state() >= last_state) {
        (void)kill(getpid(), SIGKILL);
        for (;;) {
            pause();
        }
    }
}
