/*
 * banger-launch: confines itself, then becomes one VMM. It is started by host/local.c, by
 * posix_spawn and in a session of its own, with the VMM's descriptors in their places; from there
 * on its pid is the VMM's. Nothing here runs in a fork of a program that has threads.
 *
 *   banger-launch KEY=VALUE... -- PROGRAM ARG...
 *
 * PROGRAM is an absolute path, the ARGs are its whole argument list with argv[0]. The descriptor
 * `report` is closed by the exec; before that it gets one struct launch_report when a step fails,
 * and nothing else ever. Static, with no library and one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LAUNCH_PROGRAM "banger-launch"
#define LAUNCH_BINDS_MAX 16
#define LAUNCH_STEP_SIZE 124
/* The step that fails, with EUSERS, when another process runs as the uid that was asked for. */
#define LAUNCH_STEP_ALONE "another process has the uid"
/* That of a user namespace: an ordinary user may not be allowed one. */
#define LAUNCH_STEP_USER_NAMESPACE "user namespace"

struct launch_report {
    char step[LAUNCH_STEP_SIZE]; /* what failed, NUL-terminated */
    int32_t errnum;
};

/* What the command line says; all borrowed from it. */
struct launch_options {
    int report_fd;       /* report=N: the highest descriptor; those above are closed */
    bool has_ids;        /* uid=N and gid=N were given: become these, with no other group */
    uid_t uid;           /* never 0 */
    gid_t gid;           /* never 0 */
    bool user_namespace; /* userns=1: in one where we are who we were, for the next to work */
    bool own_root; /* root=1: a mount namespace with nothing but the binds, read-only; no network */
    bool kvm;      /* kvm=1: and /dev/kvm */
    const char *binds[LAUNCH_BINDS_MAX]; /* bind=PATH, absolute; those that are missing are not */
    size_t bind_count;
    uint64_t memory_bytes;  /* as=N: address space; 0 = as it is, and so with the next */
    uint64_t file_bytes;    /* fsize=N: size of a file; the host alone may raise it later */
    uint64_t tasks;         /* nproc=N: threads; a limit for the uid, so only with one */
    uint64_t files;         /* nofile=N: descriptors */
    const char *cgroup;     /* cgroup=PATH: one to make and to be in, or NULL */
    uint64_t cgroup_memory; /* cgroup_memory=N: its memory.max in bytes */
    const char *program;
    char **argv;
};

/* 0, or -1 with what is wrong in ret_wrong: an argument, or the name of one that is missing.
 * ret->report_fd is right also then, or -1. */
int launch_parse(int argc, char **argv, struct launch_options *ret, const char **ret_wrong);

/* Everything up to the exec, in order. 0, or -errno with the name of the step. There is no way back
 * from a half confined process: end it. */
int launch_confine(const struct launch_options *o, const char **ret_step);
