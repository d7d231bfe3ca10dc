#include "host/host.h"

#include "base/test_point.h"

int host_launch(struct host *host, const struct host_launch *params, struct host_vmm *ret_vmm,
                struct err *err)
{
    int r = FAULT_POINT("host.launch");

    return r < 0 ? err_set_errno(err, ERR_VMM, r, "cannot start '" HOST_QEMU_PROGRAM "'")
                 : host->ops->launch(host, params, ret_vmm, err);
}

int host_kill(struct host *host, const struct vmm_process *process, const char *run_dir,
              struct err *err)
{
    int r = FAULT_POINT("host.kill");

    return r < 0 ? err_set_errno(err, ERR_VMM, r, "cannot end process %d", process->pid)
                 : host->ops->kill(host, process, run_dir, err);
}

int host_allow_disk(struct host *host, const struct vmm_process *process, const char *run_dir,
                    uint64_t disk_bytes, struct err *err)
{
    int r = FAULT_POINT("host.allow_disk");

    return r < 0 ? err_set_errno(err, ERR_VMM, r, "cannot let process %d have more disk",
                                 process->pid)
                 : host->ops->allow_disk(host, process, run_dir, disk_bytes, err);
}

int host_pss(struct host *host, const struct vmm_process *process, const char *run_dir,
             uint64_t *ret_bytes, struct err *err)
{
    int r = FAULT_POINT("host.pss");

    return r < 0 ? err_set_errno(err, ERR_VMM, r, "cannot measure process %d", process->pid)
                 : host->ops->pss(host, process, run_dir, ret_bytes, err);
}

int host_status(struct host *host, struct host_status *ret_status, struct err *err)
{
    int r = FAULT_POINT("host.status");

    return r < 0 ? err_set_errno(err, ERR_VMM, r, "cannot ask who starts VMs")
                 : host->ops->status(host, ret_status, err);
}
