/*
 * One interface over the programs that run VMs. A back end is a table of ops (vmm/qemu, vmm/fake,
 * later vmm/firecracker) and keeps no state but in `struct vmm`, one running VMM process.
 *
 * A `struct vmm` is made by launch, or by adopt for a process that an earlier daemon left. Its
 * events come on the loop's thread; all its functions may be called from any thread, block no
 * longer than their cancel allows, and fill err with ERR_VMM or a more exact code.
 * The run directory holds everything of one incarnation that has a path: agent.sock, qmp.sock. It
 * is on the process's command line, so a pid can be checked to be ours.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/id.h"
#include "base/loop.h"
#include "host/host.h"
#include "host/process.h"

#include <stdint.h>
#include <sys/types.h>

struct vmm;

enum vmm_accel {
    VMM_ACCEL_TCG, /* emulation */
    VMM_ACCEL_KVM,
};
const char *vmm_accel_name(enum vmm_accel accel); /* "tcg", "kvm" */

enum vmm_event {
    VMM_EXITED,      /* the process is gone and, when it was our child, reaped; always the last */
    VMM_GUEST_RESET, /* the guest reset the machine: reboot or panic; exit follows */
    VMM_GUEST_POWEROFF, /* the guest switched it off; exit follows */
    VMM_PORT_CLOSED,    /* the guest closed the agent's port: the agent is gone */
    VMM_IO_STOPPED,     /* a disk write failed (host disk full): the guest's CPUs are stopped */
    VMM_RESUMED,
};

/* On the loop's thread. */
typedef void (*vmm_event_fn)(void *arg, enum vmm_event event);

/* Everything borrowed for the call. */
struct vmm_spec {
    struct host *host;   /* who starts the process, and stays for the life of the VMM */
    const char *name;    /* of the VM, for the process title */
    const char *run_dir; /* absolute path, exists, ours, 0700 */
    int run_dir_fd;
    enum vmm_accel accel;
    unsigned vcpus;
    uint64_t memory_mib;
    int kernel_fd;    /* vmlinux ELF with a PVH note, readable */
    int initramfs_fd; /* readable */
    const char *cmdline;
    int root_disk_fd; /* O_RDONLY raw image, serial "banger-root" in the guest; -1 = none */
    int data_disk_fd; /* O_RDWR raw image, serial "banger-data"; -1 = none */
    int tap_fd; /* of a TAP with vnet headers, as host_tap_open gives one (host/net.h): the card,
                 * whose address is HOST_GUEST_MAC, is at its other end. The caller's; -1 = no card
                 */
    /* Of a machine that is going to be saved, or was. -1: of one that is neither. */
    int memory_fd; /* a memfd of memory_mib: to be saved, it has what the guest writes; of a
                    * restored one it is sealed, and what the guest writes stays with it */
    int state_fd;  /* what save wrote, read from where it is: the machine goes on there, and its
                    * kernel and initramfs may be -1. -1: it boots */
    const char *program; /* absolute path of a VMM that is ours; NULL for those of others */
    const char *faults;  /* for the fake VMM alone: what it is to do wrong; NULL = nothing */
    int console_fd;      /* O_WRONLY | O_APPEND: the serial console; may be truncated at any time */
    int log_fd;          /* the same, of what the process prints */
};

#define VMM_VERSION_SIZE 32

enum vmm_feature {
    VMM_BOOTS_KERNEL = 1 << 0, /* wants kernel, initramfs, accelerator and disks */
    VMM_RESTORES = 1 << 1,     /* machines can be saved, and restored any number of times */
};

struct vmm_ops {
    const char *name;    /* "qemu" */
    const char *program; /* what its processes are called: the file name in their argv[0] */
    unsigned features;   /* of enum vmm_feature */

    /* Finds the program and its version, e.g. "7.2.22". ERR_UNSUPPORTED with a hint when it is
     * not installed. ret_version has room for 32 bytes. */
    int (*version)(char *ret_version, struct err *err);

    /* Starts the process: sockets are bound and listening before, so the agent's may be connected
     * to at once. Returns once the process runs, not once the guest does. */
    int (*launch)(struct loop *loop, const struct vmm_spec *spec, vmm_event_fn fn, void *arg,
                  struct vmm **ret_vmm, struct err *err);

    /* Takes over a process that is still there. ERR_NOT_FOUND when it is gone, or is not ours. */
    int (*adopt)(struct loop *loop, struct host *host, const char *run_dir, int run_dir_fd,
                 const struct vmm_process *process, vmm_event_fn fn, void *arg,
                 struct vmm **ret_vmm, struct err *err);

    const struct vmm_process *(*process)(const struct vmm *vmm);

    /* The version that this process said it is, "" if it has not spoken yet. */
    void (*running_version)(struct vmm *vmm, char ret_version[VMM_VERSION_SIZE]);

    /* What a machine restored from that of another spec must have in common with it, as text, but
     * for its disks' content: free it. NULL without VMM_RESTORES. */
    char *(*describe)(const struct vmm_spec *spec);

    /* Of a VMM that was launched: waits until its guest's CPUs run. Fails when they never will. */
    int (*wait_started)(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms,
                        struct err *err);

    /* Suspends and resumes the guest's CPUs. */
    int (*pause)(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms, struct err *err);
    int (*resume)(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms, struct err *err);

    /* Tells the guest that its data disk, whose file has grown, has so many bytes. NULL: that has
     * to wait for the next start. */
    int (*grow_disk)(struct vmm *vmm, uint64_t bytes, struct cancel *cancel, int64_t deadline_ms,
                     struct err *err);

    /* Of one launched with memory_fd: stops the guest for good, and writes what its memory does not
     * have of it to state_fd, a file. Then its disks have all that it had written. NULL without
     * VMM_RESTORES. */
    int (*save)(struct vmm *vmm, int state_fd, struct cancel *cancel, int64_t deadline_ms,
                struct err *err);

    /* SIGKILL; VMM_EXITED follows. 0 also when it is gone already. When nobody may kill it, it is
     * asked to quit; fails when it does not do that either. */
    int (*kill)(struct vmm *vmm, struct err *err);

    /* Waits for the exit. 0 (then *ret_exit is set), -ECANCELED or -ETIMEDOUT. */
    int (*wait_exit)(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms,
                     struct vmm_exit *ret_exit);

    /* Lets go of the handle, not of the process; no event comes after it returns. Must not be
     * called from the event function. Accepts NULL. */
    void (*free)(struct vmm *vmm);
};

/* The end of what a process printed: up to `most` bytes of the file, escaped, "" if none. Free it.
 */
char *vmm_log_tail(int log_fd, size_t most);

extern const struct vmm_ops vmm_qemu_ops;
/* For tests: no machine, no kernel and no isolation. Commands are processes of the host. */
extern const struct vmm_ops vmm_fake_ops;

/* The back end of that name, or NULL. */
const struct vmm_ops *vmm_ops_find(const char *name);
/* All of them: number i, or NULL behind the last. */
const struct vmm_ops *vmm_ops_at(size_t i);
