/* KVM or emulation: found out once by a guest that only says hello, for all VMs; and the command
 * line, which depends on it. */
#include "vm/vm_priv.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

bool vm_accel_get(struct vms *v, enum vmm_accel *ret, char ret_why[ACCEL_WHY_SIZE])
{
    bool known = true;

    ret_why[0] = '\0';
    switch (v->params.accel) {
    case VM_ACCEL_KVM:
        *ret = VMM_ACCEL_KVM;
        break;
    case VM_ACCEL_TCG:
        *ret = VMM_ACCEL_TCG;
        (void)snprintf(ret_why, ACCEL_WHY_SIZE, "accel = \"tcg\" in the configuration");
        break;
    case VM_ACCEL_AUTO:
        leaf_lock(&v->table);
        known = v->accel_known;
        *ret = v->accel;
        memcpy(ret_why, v->accel_why, sizeof(v->accel_why));
        leaf_unlock(&v->table);
        break;
    }
    return known;
}

int vm_cmdline(const struct vms *v, enum vmm_accel accel, const struct vm_machine *m,
               char ret_cmdline[CMDLINE_SIZE], struct err *err)
{
    return vm_cmdline_of(v, accel, v->params.tsc_khz, m, ret_cmdline, err);
}

int vm_cmdline_of(const struct vms *v, enum vmm_accel accel, uint32_t tsc_khz,
                  const struct vm_machine *m, char ret_cmdline[CMDLINE_SIZE], struct err *err)
{
    struct cmdline_params p = {
        .extra = m->words,
        .extra_count = m->word_count,
        .emulated = accel == VMM_ACCEL_TCG,
        .tsc_khz = v->params.tsc_khz ? tsc_khz : 0,
        .vcpus = m->spec.vcpus,
        .console = true,
    };

    if (p.emulated && p.tsc_khz == 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "this host's time stamp counter is not constant, and emulated guests need "
                       "one that is");
    }
    return cmdline_build(&p, ret_cmdline, err);
}

static int probe(struct vms *v, const struct vmm_ops *ops, const struct vmm_spec *spec,
                 const char *kernel_key, struct cancel *cancel, struct err *err)
{
    static const struct vm_machine small = {.spec.vcpus = 1};
    struct vmm_probe_params p = {
        .host = v->params.host,
        .kernel_fd = spec->kernel_fd,
        .initramfs_fd = spec->initramfs_fd,
        .kernel_key = kernel_key,
        .cache_dir_fd = v->params.cache_fd,
        .work_dir = v->run_dir,
        .work_dir_fd = v->params.run_fd,
    };
    char cmdline[CMDLINE_SIZE], why[ACCEL_WHY_SIZE] = "";
    enum vmm_accel accel;

    if (vm_cmdline(v, VMM_ACCEL_KVM, &small, cmdline, err) < 0) {
        return -1;
    }
    p.cmdline = cmdline;
    if (vmm_accel_probe(v->params.control_loop, ops, &p, cancel, &accel, why, err) < 0) {
        return -1;
    }
    if (accel == VMM_ACCEL_TCG) {
        log_info("KVM is not used: %s", why);
    }
    leaf_lock(&v->table);
    v->accel = accel;
    (void)snprintf(v->accel_why, sizeof(v->accel_why), "%s", why);
    v->accel_known = true;
    leaf_unlock(&v->table);
    return 0;
}

/* One probe at a time: whoever waits finds its verdict. */
int vm_accel_find(struct vms *v, const struct vmm_ops *ops, const struct vmm_spec *spec,
                  const char *kernel_key, struct cancel *cancel, struct err *err)
{
    char why[ACCEL_WHY_SIZE];
    enum vmm_accel accel;
    int r = boot_slots_acquire(v->probe, cancel, -1);

    if (r < 0) {
        return err_set_errno(err, ERR_CANCELLED, r, "probing KVM");
    }
    r = vm_accel_get(v, &accel, why) ? 0 : probe(v, ops, spec, kernel_key, cancel, err);
    boot_slots_release(v->probe);
    return r;
}

int vm_accel_know(struct vms *v, const struct vmm_ops *ops, const char *kernel_digest,
                  struct cancel *cancel, enum vmm_accel *ret, struct err *err)
{
    _cleanup_close_ int kernel_fd = -1, initramfs_fd = -1;
    struct vmm_spec spec = {0};
    char why[ACCEL_WHY_SIZE];

    if (vm_accel_get(v, ret, why)) {
        return 0;
    }
    if (kernel_open(v->params.images, kernel_digest, &kernel_fd, &initramfs_fd, err) < 0) {
        return -1;
    }
    spec.kernel_fd = kernel_fd;
    spec.initramfs_fd = initramfs_fd;
    if (vm_accel_find(v, ops, &spec, kernel_digest, cancel, err) < 0) {
        return -1;
    }
    (void)vm_accel_get(v, ret, why);
    return 0;
}
