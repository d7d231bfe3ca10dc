/*
 * Whose process is that? A pid alone names nothing for long, so a VMM is ours only when pid, start
 * time, host boot and the run directory on its own command line all agree.
 * For back ends. Stateless; any thread; 0 or -errno.
 */
#pragma once

#include "vmm/vmm.h"

#include <stdbool.h>
#include <stddef.h>

/* Field 22 of a /proc/PID/stat text, whose second field (comm) may hold spaces and parentheses.
 * 0 or -EPROTO. */
int process_parse_start_ticks(const char *stat, uint64_t *ret_ticks);

/* Whether an argument of a /proc/PID/cmdline block (NUL after each) is `path`, or has it inside:
 * begun by the argument's start, '=', ',' or ':' and ended by its end, '/', ',' or ':'. */
bool process_cmdline_has_path(const char *cmdline, size_t len, const char *path);

/* Notes who pid is now. For a child that is not reaped yet, so that it can be nobody else. */
int process_identify(pid_t pid, struct vmm_process *ret_process);

/* A pidfd of the process, after checking that it still is the one noted and carries run_dir on its
 * command line. The pidfd; -ESRCH when it is gone (a zombie is) or is somebody else. */
int process_open(const struct vmm_process *process, const char *run_dir);

/* Collects the exit of the process behind a pidfd that has become readable. code is -1 when it was
 * not our child (or is reaped already): the kernel tells its parent only. */
void process_collect(int pidfd, struct vmm_exit *ret_exit);
