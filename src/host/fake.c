/* struct host_ops for unit tests: no confinement, and failures on demand. */
#include "base/str.h"
#include "host/host_priv.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>

struct fake {
    struct host host;
    struct host_fake_params params;
};

static int fake_launch(struct host *host, const struct host_launch *params,
                       struct host_vmm *ret_vmm, struct err *err)
{
    struct fake *f = (struct fake *)host;
    const char *argv[HOST_ARGS_MAX + 1];
    struct host_vmm vmm = {.pidfd = -1, .exit_fd = -1};
    size_t n = 0;
    pid_t pid;
    int r;

    if (f->params.fail) {
        *err = *f->params.fail;
        return -1;
    }
    for (; params->argv[n]; n++) {
        assert(n < HOST_ARGS_MAX);
        argv[n] = params->argv[n];
    }
    argv[n] = NULL;
    argv[0] = f->params.program;
    r = spawn_process(
        &(struct spawn_params){
            .argv = argv, .fds = params->fds, .fd_count = params->fd_count, .new_session = true},
        &pid, &vmm.pidfd);
    if (r == 0) {
        r = process_identify(pid, &vmm.process);
    }
    if (r < 0) {
        close_p(&vmm.pidfd);
        return err_set_errno(err, ERR_VMM, r, "cannot start '%s'", f->params.program);
    }
    *ret_vmm = vmm;
    return 0;
}

static int fake_kill(struct host *host, const struct vmm_process *process, const char *run_dir,
                     struct err *err)
{
    struct fake *f = (struct fake *)host;

    (void)run_dir;
    ++*f->params.kills;
    return kill(process->pid, SIGKILL) == 0 || errno == ESRCH
               ? 0
               : err_set_errno(err, ERR_DENIED, errno, "cannot end process %d", process->pid);
}

static int fake_allow_disk(struct host *host, const struct vmm_process *process,
                           const char *run_dir, uint64_t disk_bytes, struct err *err)
{
    (void)host;
    (void)process;
    (void)run_dir;
    (void)disk_bytes;
    (void)err;
    return 0;
}

static int fake_pss(struct host *host, const struct vmm_process *process, const char *run_dir,
                    uint64_t *ret_bytes, struct err *err)
{
    int r = process_pss(process->pid, ret_bytes);

    (void)host;
    (void)run_dir;
    return r == 0 ? 0 : err_set_errno(err, ERR_DENIED, r, "cannot measure it");
}

static int fake_status(struct host *host, struct host_status *ret_status, struct err *err)
{
    (void)host;
    (void)err;
    *ret_status = (struct host_status){.pid = getpid()};
    return 0;
}

/* The network of a fake, for a verb that is not to fail; NULL with err set. */
static struct host_fake_net *net_for(struct host *host, const char *verb, struct err *err)
{
    struct host_fake_net *net = ((struct fake *)host)->params.net;

    if (!net) {
        (void)err_set(err, ERR_UNSUPPORTED, "this fake has no network");
        return NULL;
    }
    net->calls++;
    if (str_eq(net->fail_verb, verb)) {
        *err = net->fail;
        return NULL;
    }
    return net;
}

static int fake_net_open(struct host *host, const struct host_subnet *subnet, unsigned *ret_mtu,
                         struct err *err)
{
    struct host_fake_net *net = net_for(host, "net_open", err);

    if (!net) {
        return -1;
    }
    net->is_open = true;
    net->subnet = *subnet;
    memset(net->nics, 0, sizeof(net->nics));
    *ret_mtu = net->mtu;
    return 0;
}

static int fake_net_refresh(struct host *host, unsigned *ret_mtu, struct err *err)
{
    struct host_fake_net *net = net_for(host, "net_refresh", err);

    if (!net) {
        return -1;
    }
    *ret_mtu = net->mtu;
    return 0;
}

static int fake_net_close(struct host *host, struct err *err)
{
    struct host_fake_net *net = net_for(host, "net_close", err);

    if (!net) {
        return -1;
    }
    net->is_open = false;
    memset(net->nics, 0, sizeof(net->nics));
    memset(net->taps, 0, sizeof(net->taps));
    return 0;
}

/* A descriptor that nothing comes from. */
static int fake_tap_open(struct host *host, unsigned tap, int *ret_fd, struct err *err)
{
    struct host_fake_net *net = net_for(host, "tap_open", err);
    int fd;

    if (!net) {
        return -1;
    }
    fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make a TAP that is none");
    }
    net->taps[tap] = true;
    *ret_fd = fd;
    return 0;
}

static int fake_tap_delete(struct host *host, const unsigned *taps, size_t count, struct err *err)
{
    struct host_fake_net *net = net_for(host, "tap_delete", err);

    for (size_t i = 0; i < count && net; i++) {
        net->taps[taps[i]] = false;
    }
    return net ? 0 : -1;
}

static int fake_tap_list(struct host *host, unsigned **ret_taps, size_t *ret_count, struct err *err)
{
    struct host_fake_net *net = net_for(host, "tap_list", err);
    unsigned *taps;
    size_t count = 0;

    if (!net) {
        return -1;
    }
    taps = x_calloc(HOST_TAPS_MAX, sizeof(*taps));
    for (unsigned i = 0; i < HOST_TAPS_MAX; i++) {
        if (net->taps[i]) {
            taps[count++] = i;
        }
    }
    *ret_taps = taps;
    *ret_count = count;
    return 0;
}

static int fake_nic_attach(struct host *host, const struct host_nic *nic, struct err *err)
{
    struct host_fake_net *net = net_for(host, "nic_attach", err);

    if (!net) {
        return -1;
    }
    net->nics[nic->tap] = net->last = *nic;
    return 0;
}

static int fake_nic_detach(struct host *host, const struct host_nic *nic, struct err *err)
{
    struct host_fake_net *net = net_for(host, "nic_detach", err);

    if (!net) {
        return -1;
    }
    memset(&net->nics[nic->tap], 0, sizeof(net->nics[nic->tap]));
    net->last = *nic;
    return 0;
}

static int fake_watch_fd(struct host *host)
{
    (void)host;
    return -1;
}

static void fake_free(struct host *host)
{
    free(host);
}

static const struct host_ops fake_ops = {
    .mode = "fake",
    .launch = fake_launch,
    .kill = fake_kill,
    .allow_disk = fake_allow_disk,
    .pss = fake_pss,
    .status = fake_status,
    .net_open = fake_net_open,
    .net_refresh = fake_net_refresh,
    .net_close = fake_net_close,
    .tap_open = fake_tap_open,
    .tap_delete = fake_tap_delete,
    .tap_list = fake_tap_list,
    .nic_attach = fake_nic_attach,
    .nic_detach = fake_nic_detach,
    .watch_fd = fake_watch_fd,
    .free = fake_free,
};

struct host *host_fake_new(const struct host_fake_params *params)
{
    struct fake *f = x_calloc(1, sizeof(*f));

    f->host.ops = &fake_ops;
    f->params = *params;
    return &f->host;
}
