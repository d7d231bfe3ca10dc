/*
 * Where the commands of a fake VM live: a PID namespace of their own, so that none outlives it,
 * whatever ends it. The namespace's first process, a copy of this one that only waits, ends with
 * us, and the kernel ends everything in the namespace with it. Made when the first command comes.
 * Needs root or user namespaces. Threads: one. Failure: -errno.
 */
#pragma once

#include <sys/types.h>

struct keeper {
    pid_t pid; /* 0: not made yet */
    int alive; /* pipe: its end is our end */
};

void keeper_init(struct keeper *k);

/* From the first time on all our children are born into the namespace. */
int keeper_start(struct keeper *k);

/* Ends all commands, and what they left. SIGCHLD follows. */
void keeper_stop(struct keeper *k);
