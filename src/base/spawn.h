/*
 * The one place that starts child processes: argv arrays, a clean environment, exactly the given
 * descriptors, a pidfd. No shell.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct spawn_fd {
    int fd; /* ours, borrowed */
    int as; /* number in the child, ≥ 0 */
};

struct spawn_params {
    const char *const *argv;    /* argv[0] is looked up in the caller's PATH unless it has a '/' */
    const char *const *env;     /* NULL-terminated, the whole environment; NULL = PATH only */
    const struct spawn_fd *fds; /* what the child gets; 0, 1, 2 not named here are /dev/null */
    size_t fd_count;            /* ≤ SPAWN_FDS_MAX */
    bool new_session;           /* setsid: the child outlives our terminal and process group */
};

#define SPAWN_FDS_MAX 32

/* Who starts processes for an owner, which gets it in its constructor: spawn_process. */
typedef int (*spawn_fn)(const struct spawn_params *params, pid_t *ret_pid, int *ret_pidfd);

/* 0 or -errno (-ENOENT: no such program). The caller reaps *ret_pid, and owns *ret_pidfd. */
int spawn_process(const struct spawn_params *params, pid_t *ret_pid, int *ret_pidfd);

/* Waits for the end of a child, which is near. Its status as of wait(2). */
int spawn_reap(pid_t pid);

/* The absolute path of a program in our PATH, or NULL. Free it. */
char *spawn_find_program(const char *name);
