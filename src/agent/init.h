/*
 * The image's own init (`--init image`): PID 1 becomes it once the root is entered, and the agent
 * goes on as a child that init does not know. What it needs from init, a guest that goes down, it
 * asks for in the words of the init that is there.
 * Threads: one. Failures: -errno.
 */
#pragma once

#include "agent/boot.h"

/* Makes PID 1 the program at path, and returns in a new process, the agent. There 0 once it runs,
 * or -errno with b->why when it cannot be run: then PID 1 waits for the agent's end, and ends the
 * machine. */
int init_start(struct boot *b, const char *path) _must_check_;

enum init_asked {
    INIT_TOLD,   /* it has the request, if it listens already */
    INIT_ASKING, /* by its program: *ret_pid, whose status is the answer */
    INIT_NONE,   /* there is no way to ask it */
};

/* Asks PID 1 to stop its services and to power off. */
enum init_asked init_ask_poweroff(pid_t *ret_pid);
