/*
 * Starts a session's command: its pipes or its terminal, its user, and the exec. The agent waits
 * for the exec (vfork), so the outcome is exact and the child never holds a copy of the agent.
 * Threads: one. Failures: a filled struct failure.
 */
#pragma once

#include "agent/spec.h"

#include <sys/resource.h>

/* What is the same for all children. */
struct child_env {
    struct rlimit nofile; /* the agent's own limit is higher */
    bool keep_user;       /* tests: not root, or nobody else's business */
    int self_fd;          /* this program, for FRAME_TAG_FILES; -1: not known */
};

/* The agent's ends, nonblocking; -1 where there is none. On a terminal, in and out are two
 * descriptors of the same one. */
struct child {
    pid_t pid;
    int in;
    int out;
    int err;
};

/* 0, or negative with *ret_failure set. */
int child_start(struct spec *spec, const struct child_env *env, struct child *ret,
                struct failure *ret_failure) _must_check_;
