/*
 * Whether KVM works here. That /dev/kvm opens says little (a nested host may crawl or crash), so a
 * small guest is booted under it and has to answer. The verdict is kept in a cache file, for this
 * boot of the host, this version of the VMM and this kernel.
 * Threads: any but the loop's; blocks up to the deadline, cancellable.
 */
#pragma once

#include "vmm/vmm.h"

#define ACCEL_WHY_SIZE 160
#define ACCEL_CACHE_FILE "accel.json"

/* Everything borrowed for the call. */
struct vmm_probe_params {
    struct host *host;
    int kernel_fd;
    int initramfs_fd; /* our agent's: without a root disk it says so on its port, which proves that
                       * the guest runs */
    const char *cmdline;
    const char *kernel_key; /* names the content of kernel and initramfs, e.g. their digests */
    int cache_dir_fd;
    const char *work_dir; /* absolute; a run directory is made in it, and removed */
    int work_dir_fd;
    int64_t timeout_ms;   /* 0 = 5000: within it the guest must answer */
    const char *kvm_path; /* NULL = "/dev/kvm" */
};

/* 0 with the verdict and, for TCG, one line that says why ("" for KVM). A negative return (the VMM
 * cannot be started at all, cancelled) is no verdict and leaves nothing behind either. */
int vmm_accel_probe(struct loop *loop, const struct vmm_ops *ops,
                    const struct vmm_probe_params *params, struct cancel *cancel,
                    enum vmm_accel *ret_accel, char ret_why[ACCEL_WHY_SIZE], struct err *err);

/* The verdict of the last probe of this boot of the host and this VMM, whatever its version and
 * kernel; false: there is none. Starts nothing. */
bool vmm_accel_cached(const char *cache_dir, const struct vmm_ops *ops, enum vmm_accel *ret_accel,
                      char ret_why[ACCEL_WHY_SIZE]);
