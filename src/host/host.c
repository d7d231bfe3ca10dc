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

/* Networks ------------------------------------------------------------------------------------- */

static int has_none(struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "VMs have no network here");
}

int host_net_open(struct host *host, const struct host_subnet *subnet, unsigned *ret_mtu,
                  struct err *err)
{
    int r = FAULT_POINT("host.net_open");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot open the network of VMs");
    }
    return host->ops->net_open ? host->ops->net_open(host, subnet, ret_mtu, err) : has_none(err);
}

int host_net_refresh(struct host *host, unsigned *ret_mtu, struct err *err)
{
    int r = FAULT_POINT("host.net_refresh");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot look for uplinks");
    }
    return host->ops->net_refresh ? host->ops->net_refresh(host, ret_mtu, err) : has_none(err);
}

int host_net_close(struct host *host, struct err *err)
{
    int r = FAULT_POINT("host.net_close");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot close the network of VMs");
    }
    return host->ops->net_close ? host->ops->net_close(host, err) : has_none(err);
}

int host_net_dns(struct host *host, int ret_fds[HOST_DNS_SOCKETS], struct err *err)
{
    int r = FAULT_POINT("host.net_dns");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot listen for DNS at the VMs' gateway");
    }
    return host->ops->net_dns ? host->ops->net_dns(host, ret_fds, err) : has_none(err);
}

int host_tap_open(struct host *host, unsigned tap, int *ret_fd, struct err *err)
{
    int r = FAULT_POINT("host.tap_open");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot open TAP %u", tap);
    }
    return host->ops->tap_open ? host->ops->tap_open(host, tap, ret_fd, err) : has_none(err);
}

int host_tap_delete(struct host *host, const unsigned *taps, size_t count, struct err *err)
{
    int r = FAULT_POINT("host.tap_delete");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot delete %zu TAPs", count);
    }
    return host->ops->tap_delete ? host->ops->tap_delete(host, taps, count, err) : has_none(err);
}

int host_tap_list(struct host *host, unsigned **ret_taps, size_t *ret_count, struct err *err)
{
    int r = FAULT_POINT("host.tap_list");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot list TAPs");
    }
    return host->ops->tap_list ? host->ops->tap_list(host, ret_taps, ret_count, err)
                               : has_none(err);
}

int host_nic_attach(struct host *host, const struct host_nic *nic, struct err *err)
{
    int r = FAULT_POINT("host.nic_attach");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot attach TAP %u", nic->tap);
    }
    return host->ops->nic_attach ? host->ops->nic_attach(host, nic, err) : has_none(err);
}

int host_nic_detach(struct host *host, const struct host_nic *nic, struct err *err)
{
    int r = FAULT_POINT("host.nic_detach");

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot detach TAP %u", nic->tap);
    }
    return host->ops->nic_detach ? host->ops->nic_detach(host, nic, err) : has_none(err);
}
