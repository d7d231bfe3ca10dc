/* A directory of a test's own below /tmp, and deadlines that end a test that would hang. */
#pragma once

#include "base/fs.h"

#include <stdint.h>

/* Far beyond what anything here takes: reached only by a bug. */
#define TEST_PATIENCE_MS 20000

int64_t test_deadline(void);

struct scratch {
    char path[64];
    int fd;
};

struct scratch scratch_new(void);
void scratch_done(struct scratch *s);
#define _cleanup_scratch_ _cleanup_(scratch_done)

void scratch_write(const struct scratch *s, const char *name, const char *text);

/* Runs fn(arg) in a child process, without privileges where we have them and `drop` says so; its
 * wait status. The child says no more than that it ended: assertions belong to the parent. */
int test_child(int (*fn)(void *arg), void *arg, bool drop);
