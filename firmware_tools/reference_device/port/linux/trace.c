/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "../../core/server.h"
#include "linux_port.h"

static int file = -1;
static struct timespec start;

/* The clock stands still while the process waits: from one answer to the next it counts all that the next one costs,
 * receiving and sending too. */
static void now(struct timespec *time)
{
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, time);
}

void trace_start(void)
{
    now(&start);
}

static void observe(const struct smp_request *request, int rc, size_t bytes_in, size_t bytes_out)
{
    struct timespec end;
    char line[200];
    now(&end);
    long long microseconds =
        (long long)(end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000;
    unsigned group = request->group;
    unsigned id = request->command;
    unsigned op = request->op;
    int size = snprintf(line, sizeof line,
                        "{\"group\": %u, \"id\": %u, \"op\": %u, "
                        "\"in\": %zu, \"out\": %zu, \"us\": %lld, \"rc\": %d}\n",
                        group, id, op, bytes_in, bytes_out, microseconds, rc);
    if (size > 0 && (size_t)size < sizeof line && write(file, line, (size_t)size) < 0) {
        fail("the trace can't be written", true);
    }
    now(&start);
}

void trace_open(const char *path)
{
    file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) {
        fail(path, true);
    }
    server_observe(observe);
}
