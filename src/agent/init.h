/*
 * The image's own init (`--init image`): PID 1 becomes it once the guest knows who it is, and the
 * agent goes on as a child that init does not know. What it needs from init, a guest that goes
 * down, it asks for in the words of the init that is there. Threads: one. Failures: -errno.
 */
#pragma once

#include "agent/boot.h"

#define INIT_PATH_MAX 256

struct init {
    char path[INIT_PATH_MAX];
    int go_fd;     /* to PID 1: a byte lets it become init */
    int result_fd; /* from it: an errno, or the end once init runs */
    bool begun;
};

/* Returns in a new process, the agent, for which PID 1 waits: until init is to begin, or, in the
 * place of init, until the agent's end, and then it ends the machine. 0, or -errno with b->why, and
 * then in PID 1. */
int init_fork(struct boot *b, struct init *init) _must_check_;

/* Makes PID 1 the program at init->path, unless it is that already. -errno: it cannot be run. */
int init_begin(struct init *init) _must_check_;

enum init_asked {
    INIT_TOLD,   /* it has the request, if it listens already */
    INIT_ASKING, /* by its program: *ret_pid, whose status is the answer */
    INIT_NONE,   /* there is no way to ask it */
};

/* Asks PID 1 to stop its services and to power off. */
enum init_asked init_ask_poweroff(pid_t *ret_pid);
