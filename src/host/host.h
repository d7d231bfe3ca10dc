/*
 * What only the privileged side may do, as a table of verbs with several back ends: local.c does
 * them in this process, proxy.c asks the helper (helper.h), which has root and does them by
 * local.c, and fake.c is for tests. To add a verb: here, in host.c, in each of these, in
 * wire.h and in check.c. Threads: any; no lock is held over a call, and none of ours may be (they
 * wait). Owns nothing but its own state: what it starts outlives it.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/spawn.h"
#include "host/net.h"
#include "host/process.h"

#include <stdbool.h>
#include <stdint.h>

/* Descriptors of a VMM are below this. */
#define HOST_FD_MAX 64
#define HOST_ARGS_MAX 128
#define HOST_QEMU_PROGRAM "qemu-system-x86_64"
/* As far as it goes. */
#define HOST_QEMU_SANDBOX "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
#define HOST_MEMORY_MIB_MAX (1024U * 1024)
#define HOST_VCPUS_MAX 255U
#define HOST_DISK_BYTES_MAX (1ULL << 50)

/* One VMM to start; everything borrowed for the call. The program is QEMU, which the host finds by
 * itself. */
struct host_launch {
    const char *const *argv; /* its whole argument list; has run_dir in it (process.h) */
    const struct spawn_fd *fds;
    size_t fd_count;     /* ≤ SPAWN_FDS_MAX; 0, 1, 2 not named are /dev/null, others closed */
    const char *run_dir; /* absolute; names the VM, is not opened */
    uint64_t memory_mib;
    unsigned vcpus;
    uint64_t disk_bytes; /* of its largest disk: no file of the VMM's may grow beyond that, until
                          * allow_disk */
    bool kvm;            /* it needs /dev/kvm */
};

/* One that runs. The caller owns the descriptors. */
struct host_vmm {
    struct vmm_process process;
    int pidfd;
    /* When it is a child of somebody else's: readable when it has ended, for host_take_exit. -1
     * when it is ours, or nobody's that we know: then the pidfd is. */
    int exit_fd;
};

/* What the privileged side says about itself. */
struct host_status {
    pid_t pid;
    uint32_t vmms; /* its children */
    uid_t uid_first, uid_count;
};

struct host;

struct host_ops {
    const char *mode; /* for people: "in process", "root helper" */
    bool gives_kvm;   /* VMMs get /dev/kvm also when we may not open it */

    /* Starts a VMM, confined (docs/ARCHITECTURE.md, "Confinement"), in a session of its own, with
     * nothing in its environment but PATH. Returns when the program has been executed. ERR_VMM says
     * which step of the confinement failed; ERR_UNSUPPORTED with a hint: a program is missing. */
    int (*launch)(struct host *host, const struct host_launch *params, struct host_vmm *ret_vmm,
                  struct err *err);

    /* SIGKILL to a VMM, if it still is that process. 0 also when it is gone. ERR_DENIED when it is
     * none of those that we may end. */
    int (*kill)(struct host *host, const struct vmm_process *process, const char *run_dir,
                struct err *err);

    /* Lets the files of a VMM that runs become as large as a disk of so many bytes is. ERR_DENIED
     * as above, and when it was started by a version that knew no way back. */
    int (*allow_disk)(struct host *host, const struct vmm_process *process, const char *run_dir,
                      uint64_t disk_bytes, struct err *err);

    /* The memory of a VMM, what it shares with others by share (proc(5): Pss of smaps_rollup),
     * which only its uid may read. */
    int (*pss)(struct host *host, const struct vmm_process *process, const char *run_dir,
               uint64_t *ret_bytes, struct err *err);

    /* Asks whether it is there at all. */
    int (*status)(struct host *host, struct host_status *ret_status, struct err *err);

    /* The network: see net.h. NULL where there is none. */
    int (*net_open)(struct host *host, const struct host_subnet *subnet, unsigned *ret_mtu,
                    struct err *err);
    int (*net_refresh)(struct host *host, unsigned *ret_mtu, struct err *err);
    int (*net_close)(struct host *host, struct err *err);
    int (*net_dns)(struct host *host, int ret_fds[HOST_DNS_SOCKETS], struct err *err);
    int (*tap_open)(struct host *host, unsigned tap, int *ret_fd, struct err *err);
    int (*tap_delete)(struct host *host, const unsigned *taps, size_t count, struct err *err);
    int (*tap_list)(struct host *host, unsigned **ret_taps, size_t *ret_count, struct err *err);
    int (*nic_attach)(struct host *host, const struct host_nic *nic, struct err *err);
    int (*nic_detach)(struct host *host, const struct host_nic *nic, struct err *err);

    /* Becomes readable, and says EPOLLHUP, when the privileged side is gone for good; -1 when that
     * cannot be. Borrowed. */
    int (*watch_fd)(struct host *host);

    /* VMMs go on. */
    void (*free)(struct host *host);
};

/* Every back end's struct begins with this. */
struct host {
    const struct host_ops *ops;
};

/* The verbs that may fail (with those of net.h), each with a fault point of its name
 * (base/test_point.h): nobody calls the back ends' by themselves. */
int host_launch(struct host *host, const struct host_launch *params, struct host_vmm *ret_vmm,
                struct err *err);
int host_kill(struct host *host, const struct vmm_process *process, const char *run_dir,
              struct err *err);
int host_allow_disk(struct host *host, const struct vmm_process *process, const char *run_dir,
                    uint64_t disk_bytes, struct err *err);
int host_pss(struct host *host, const struct vmm_process *process, const char *run_dir,
             uint64_t *ret_bytes, struct err *err);
int host_status(struct host *host, struct host_status *ret_status, struct err *err);

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
    uid_t owner;             /* whose that is */
    const char *cgroup_root; /* of cgroup v2; NULL = where it is mounted */
    spawn_fn spawn;          /* NULL = spawn_process */
};

/* The one that does it itself. What the host does not allow (cgroups; without root, user
 * namespaces) it does without, and says so in the log, once. */
struct host *host_local_new(const struct host_local_params *params);

/* The one that asks the helper at the other end of fd, which it takes over. */
struct host *host_proxy_new(int fd);

/* For unit tests: every launch starts this program instead (absolute path; it gets the argument
 * list), unconfined, or fails with *fail when that is set; kills are counted and done. */
struct host_fake_params {
    const char *program;
    const struct err *fail;
    unsigned *kills;
    struct host_fake_net *net; /* NULL: it has no network */
};

/* The network of the fake: what it was asked for, and what there would be. Borrowed; one thread at
 * a time, and the test reads and writes it in between. */
struct host_fake_net {
    const char *fail_verb; /* "tap_open" and so on fails with `fail`; NULL: none does */
    struct err fail;
    unsigned mtu; /* what open and refresh say */

    bool is_open;
    struct host_subnet subnet;
    bool taps[HOST_TAPS_MAX];            /* are there */
    struct host_nic nics[HOST_TAPS_MAX]; /* attached, by TAP; ipv4 0: nobody */
    unsigned calls;                      /* of all verbs, failed ones too */
    struct host_nic last;                /* of attach or detach */
};
struct host *host_fake_new(const struct host_fake_params *params);

/* Reads how a VMM ended from an exit_fd that has become readable. False: whoever knew is gone, and
 * the pidfd is to be watched instead. */
bool host_take_exit(int exit_fd, struct vmm_exit *ret_exit);

/* The uid that a VMM of run_dir is given at the n-th try: by a hash, and the next ones after. */
uid_t host_vmm_uid(const char *run_dir, unsigned try, uid_t first, uid_t count);
