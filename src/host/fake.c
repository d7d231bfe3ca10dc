/* struct host_ops for unit tests: no confinement, and failures on demand. */
#include "base/str.h"
#include "host/host_priv.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
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
