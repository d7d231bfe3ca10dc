/*
 * The fake back end: banger-fakevmm in the place of QEMU, for tests. No control connection: the
 * process is watched by its pidfd, paused by SIGSTOP, and what its guest does is heard on the
 * agent's socket. It ends when its host lets it, like QEMU, and outlives us.
 */
#include "vmm/vmm.h"

#include "base/fs.h"
#include "base/spawn.h"
#include "base/str.h"
#include "host/process.h"
#include "version.h"
#include "vmm/fake/fake_process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define AGENT_SOCKET "agent.sock"
/* The daemon, and the one that it follows. */
#define SOCKET_BACKLOG 4

struct vmm {
    /* immutable */
    struct loop *loop;
    vmm_event_fn fn;
    void *arg;
    struct vmm_process process;
    int pidfd;
    bool adopted;

    /* loop thread only */
    struct loop_source *exit_source; /* NULL once it has exited */
    bool in_event;

    /* written on the loop's thread before `exited` is set, not after */
    struct vmm_exit exit;
    struct latch exited;
};

static void emit(struct vmm *vmm, enum vmm_event event)
{
    vmm->in_event = true;
    vmm->fn(vmm->arg, event);
    vmm->in_event = false;
}

static void on_exit_readable(void *arg, uint32_t events)
{
    struct vmm *vmm = arg;

    (void)events;
    loop_source_free(vmm->exit_source);
    vmm->exit_source = NULL;
    process_collect(vmm->pidfd, &vmm->exit);
    latch_set(&vmm->exited);
    emit(vmm, VMM_EXITED);
}

/* Making and freeing -------------------------------------------------------------------------- */

static void attach(void *arg)
{
    struct vmm *vmm = arg;

    vmm->exit_source = loop_add_io(vmm->loop, vmm->pidfd, EPOLLIN, on_exit_readable, vmm);
}

static void detach(void *arg)
{
    struct vmm *vmm = arg;

    assert(!vmm->in_event);
    loop_source_free(vmm->exit_source);
    vmm->exit_source = NULL;
}

/* Takes over the pidfd. */
static struct vmm *vmm_new(struct loop *loop, const struct vmm_process *process, int pidfd,
                           bool adopted, vmm_event_fn fn, void *arg)
{
    struct vmm *vmm = x_calloc(1, sizeof(*vmm));

    vmm->loop = loop;
    vmm->fn = fn;
    vmm->arg = arg;
    vmm->process = *process;
    vmm->pidfd = pidfd;
    vmm->adopted = adopted;
    latch_init(&vmm->exited);
    loop_post(loop, attach, vmm); /* before whatever else is asked of that loop */
    return vmm;
}

static void fake_free(struct vmm *vmm)
{
    struct vmm_exit unused;

    if (!vmm) {
        return;
    }
    loop_call(vmm->loop, detach, vmm);
    if (!latch_is_set(&vmm->exited)) {
        process_collect(vmm->pidfd, &unused); /* in case it ended just now: leave no zombie */
    }
    close_p(&vmm->pidfd);
    latch_done(&vmm->exited);
    free(vmm);
}

/* Launch -------------------------------------------------------------------------------------- */

/* What launch holds until the process runs. */
struct launching {
    int listen_fd, control_fd;
};

static void launching_done(struct launching *l)
{
    close_p(&l->listen_fd);
    close_p(&l->control_fd);
}

static int prepare(const struct vmm_spec *spec, struct launching *l, struct err *err)
{
    l->listen_fd = fs_unix_listen(spec->run_dir_fd, AGENT_SOCKET, SOCKET_BACKLOG);
    if (l->listen_fd < 0) {
        return err_set_errno(err, ERR_IO, l->listen_fd, "'%s/" AGENT_SOCKET "'", spec->run_dir);
    }
    if (!spec->faults || !spec->faults[0]) {
        return 0;
    }
    if (mkfifoat(spec->run_dir_fd, FAKE_CONTROL, 0600) == 0) {
        /* Both ways: a reader that is alone would read an end of file. */
        l->control_fd = openat(spec->run_dir_fd, FAKE_CONTROL, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    }
    if (l->control_fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "'%s/" FAKE_CONTROL "'", spec->run_dir);
    }
    return 0;
}

static int spawn(const struct vmm_spec *spec, const struct launching *l, pid_t *ret_pid,
                 int *ret_pidfd, struct err *err)
{
    const char *argv[] = {spec->program, spec->name, spec->run_dir,
                          l->control_fd >= 0 ? spec->faults : NULL, NULL};
    const struct spawn_fd fds[] = {
        {.fd = spec->log_fd, .as = STDOUT_FILENO},
        {.fd = spec->log_fd, .as = STDERR_FILENO},
        {.fd = l->listen_fd, .as = FAKE_FD_AGENT},
        {.fd = spec->console_fd, .as = FAKE_FD_CONSOLE},
        {.fd = l->control_fd, .as = FAKE_FD_CONTROL},
    };
    struct spawn_params params = {
        .argv = argv,
        .fds = fds,
        .fd_count = ARRAY_LEN(fds) - (l->control_fd < 0),
        .new_session = true,
    };
    int r = spawn_process(&params, ret_pid, ret_pidfd);

    if (r == -ENOENT) {
        return err_set(err, ERR_UNSUPPORTED, "'%s' is not installed", spec->program);
    }
    return r < 0 ? err_set_errno(err, ERR_VMM, r, "cannot start '%s'", spec->program) : 0;
}

static int fake_launch(struct loop *loop, const struct vmm_spec *spec, vmm_event_fn fn, void *arg,
                       struct vmm **ret_vmm, struct err *err)
{
    _cleanup_(launching_done) struct launching l = {.listen_fd = -1, .control_fd = -1};
    _cleanup_close_ int pidfd = -1;
    struct vmm_process process;
    pid_t pid;
    int r;

    if (prepare(spec, &l, err) < 0 || spawn(spec, &l, &pid, &pidfd, err) < 0) {
        return -1;
    }
    r = process_identify(pid, &process);
    if (r < 0) {
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        (void)spawn_reap(pid);
        return err_set_errno(err, ERR_VMM, r, "cannot read the start time of process %d", pid);
    }
    *ret_vmm = vmm_new(loop, &process, STEAL_FD(pidfd), false, fn, arg);
    return 0;
}

static int fake_adopt(struct loop *loop, struct host *host, const char *run_dir, int run_dir_fd,
                      const struct vmm_process *process, vmm_event_fn fn, void *arg,
                      struct vmm **ret_vmm, struct err *err)
{
    int pidfd = process_open(process, run_dir);

    (void)host; /* it runs as who we are, unconfined */
    (void)run_dir_fd;
    if (pidfd == -ESRCH) {
        return err_set(err, ERR_NOT_FOUND, "no process %d of '%s'", process->pid, run_dir);
    }
    if (pidfd < 0) {
        return err_set_errno(err, ERR_VMM, pidfd, "cannot take over process %d", process->pid);
    }
    *ret_vmm = vmm_new(loop, process, pidfd, true, fn, arg);
    return 0;
}

/* Control ------------------------------------------------------------------------------------- */

static int fake_version(char *ret_version, struct err *err)
{
    (void)err;
    (void)snprintf(ret_version, VMM_VERSION_SIZE, "%s", BANGER_VERSION);
    return 0;
}

static const struct vmm_process *fake_process(const struct vmm *vmm)
{
    return &vmm->process;
}

/* It lies beside us, so it is of our version when we started it. */
static void fake_running_version(struct vmm *vmm, char ret_version[VMM_VERSION_SIZE])
{
    (void)snprintf(ret_version, VMM_VERSION_SIZE, "%s", vmm->adopted ? "" : BANGER_VERSION);
}

/* It runs as soon as its process does. */
static int fake_wait_started(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms,
                             struct err *err)
{
    (void)vmm;
    (void)cancel;
    (void)deadline_ms;
    (void)err;
    return 0;
}

static int send_signal(struct vmm *vmm, int sig, struct err *err)
{
    if (pidfd_send_signal(vmm->pidfd, sig, NULL, 0) < 0) {
        return errno == ESRCH ? err_set(err, ERR_NOT_RUNNING, "the fake VMM has ended")
                              : err_set_errno(err, ERR_VMM, errno, "the fake VMM");
    }
    return 0;
}

static int fake_pause(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    (void)cancel;
    (void)deadline_ms;
    return send_signal(vmm, SIGSTOP, err);
}

static void emit_resumed(void *arg)
{
    struct vmm *vmm = arg;

    if (vmm->exit_source) {
        emit(vmm, VMM_RESUMED);
    }
}

static int fake_resume(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    (void)cancel;
    (void)deadline_ms;
    if (send_signal(vmm, SIGCONT, err) < 0) {
        return -1;
    }
    loop_call(vmm->loop, emit_resumed, vmm);
    return 0;
}

static int fake_kill(struct vmm *vmm, struct err *err)
{
    return pidfd_send_signal(vmm->pidfd, SIGKILL, NULL, 0) == 0 || errno == ESRCH
               ? 0
               : err_set_errno(err, ERR_VMM, errno, "cannot end process %d", vmm->process.pid);
}

static int fake_wait_exit(struct vmm *vmm, struct cancel *cancel, int64_t deadline_ms,
                          struct vmm_exit *ret_exit)
{
    int r = latch_wait(&vmm->exited, cancel, deadline_ms);

    if (r < 0) {
        return r;
    }
    *ret_exit = vmm->exit;
    return 0;
}

const struct vmm_ops vmm_fake_ops = {
    .name = "fake",
    .program = FAKE_PROGRAM,
    .version = fake_version,
    .launch = fake_launch,
    .adopt = fake_adopt,
    .process = fake_process,
    .running_version = fake_running_version,
    .wait_started = fake_wait_started,
    .pause = fake_pause,
    .resume = fake_resume,
    .kill = fake_kill,
    .wait_exit = fake_wait_exit,
    .free = fake_free,
};
