/*
 * What only the privileged side may do, as a table of verbs with several back ends: local.c does
 * them in this process, and fake.c only pretends, for tests.
 * Threads: any; no lock is held over a call, and none of ours may be (they wait). Owns nothing but
 * its own state: what it starts outlives it.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/spawn.h"
#include "host/process.h"

#include <stdbool.h>
#include <stdint.h>

/* Descriptors of a VMM are below this. */
#define HOST_FD_MAX 64
#define HOST_ARGS_MAX 128
#define HOST_MEMORY_MIB_MAX (1024U * 1024)
#define HOST_VCPUS_MAX 255U

/* One VMM to start; everything borrowed for the call. The program is QEMU, which the host finds by
 * itself. */
struct host_launch {
    const char *const *argv; /* its whole argument list; has run_dir in it (process.h) */
    const struct spawn_fd *fds;
    size_t fd_count;     /* ≤ SPAWN_FDS_MAX; 0, 1, 2 not named are /dev/null, others closed */
    const char *run_dir; /* absolute; names the VM, is not opened */
    uint64_t memory_mib;
    unsigned vcpus;
    uint64_t disk_bytes; /* of its largest disk: no file of the VMM's may grow beyond that */
    bool kvm;            /* it needs /dev/kvm */
};

/* One that runs. The caller owns the descriptors. */
struct host_vmm {
    struct vmm_process process;
    int pidfd;
};

struct host;

struct host_ops {
    const char *mode; /* for people: "in process" */

    /* Starts a VMM, confined (docs/ARCHITECTURE.md, "Confinement"), in a session of its own, with
     * nothing in its environment but PATH. Returns when the program has been executed. ERR_VMM says
     * which step of the confinement failed; ERR_UNSUPPORTED with a hint: a program is missing. */
    int (*launch)(struct host *host, const struct host_launch *params, struct host_vmm *ret_vmm,
                  struct err *err);

    /* SIGKILL to a VMM, if it still is that process. 0 also when it is gone. */
    int (*kill)(struct host *host, const struct vmm_process *process, const char *run_dir,
                struct err *err);

    /* VMMs go on. */
    void (*free)(struct host *host);
};

/* Every back end's struct begins with this. */
struct host {
    const struct host_ops *ops;
};

static inline void host_free(struct host *host)
{
    if (host) {
        host->ops->free(host);
    }
}
DEFINE_CLEANUP(struct host *, host_free);

/* Copied. */
struct host_local_params {
    const char *launcher;    /* path of banger-launch */
    uid_t uid_first;         /* each VMM gets a uid (and gid) of this range of its own, for which */
    uid_t uid_count;         /* root is needed; 0 = all run as who we are */
    const char *name;        /* tells daemons apart: their runtime directory */
    const char *cgroup_root; /* of cgroup v2; NULL = where it is mounted */
};

/* The one that does it itself. What the host does not allow (cgroups; without root, user
 * namespaces) it does without, and says so in the log, once. */
struct host *host_local_new(const struct host_local_params *params);

/* The uid that a VMM of run_dir is given at the n-th try: by a hash, and the next ones after. */
uid_t host_vmm_uid(const char *run_dir, unsigned try, uid_t first, uid_t count);
