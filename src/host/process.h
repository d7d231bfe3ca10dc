/*
 * Whose process is that? A pid alone names nothing for long, so a VMM is ours only when pid, start
 * time, host boot and the run directory on its own command line all agree.
 * Stateless; any thread; 0 or -errno.
 */
#pragma once

#include "base/id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What names a process beyond its pid, which the kernel reuses. */
struct vmm_process {
    pid_t pid;
    uint64_t start_ticks;       /* field 22 of /proc/PID/stat, proc(5) */
    char boot_id[BOOT_ID_SIZE]; /* /proc/sys/kernel/random/boot_id of the host */
};

struct vmm_exit {
    int code;   /* exit status, -1 when unknown (adopted process) */
    int signal; /* 0, or what killed it */
};

/* Field 22 of a /proc/PID/stat text, whose second field (comm) may hold spaces and parentheses.
 * 0 or -EPROTO. */
int process_parse_start_ticks(const char *stat, uint64_t *ret_ticks);

/* Whether an argument of a /proc/PID/cmdline block (NUL after each) is `path`, or has it inside:
 * begun by the argument's start, '=', ',' or ':' and ended by its end, '/', ',' or ':'. */
bool process_cmdline_has_path(const char *cmdline, size_t len, const char *path);

/* The id that the host's kernel has had since it booted. */
int process_boot_id(char ret_id[BOOT_ID_SIZE]);

/* Notes who pid is now. For a child that is not reaped yet, so that it can be nobody else. */
int process_identify(pid_t pid, struct vmm_process *ret_process);

/* A pidfd of the process, after checking that it still is the one noted and carries run_dir on its
 * command line. The pidfd; -ESRCH when it is gone (a zombie is) or is somebody else. */
int process_open(const struct vmm_process *process, const char *run_dir);

/* The real uid of a process, or -1. */
int64_t process_uid(pid_t pid);

/* Its memory, what it shares with others by share; its uid's alone to know. 0 or -errno. */
int process_pss(pid_t pid, uint64_t *ret_bytes);

/* Collects the exit of the process behind a pidfd that has become readable. code is -1 when it was
 * not our child (or is reaped already): the kernel tells its parent only. */
void process_collect(int pidfd, struct vmm_exit *ret_exit);
