/* struct host_ops, done by this process: it starts banger-launch, which becomes the VMM. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "host/cgroup.h"
#include "host/host_priv.h"
#include "host/net_local.h"
#include "launch/launch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define REPORT_DEADLINE_MS 20000
#define UID_TRIES 64U
/* Options of banger-launch, binds, "--", program. */
#define LAUNCHER_ARGS_MAX 48
#define MIB (1024ULL * 1024)
/* Beside the guest's memory: libraries, translated code, stacks, allocation arenas. */
#define ADDRESS_SPACE_MIB 8192U
#define ADDRESS_SPACE_MIB_PER_VCPU 128U
#define CGROUP_MEMORY_MIB 1024U
/* Beside the vcpus: QEMU's main and RCU threads, and up to 64 that work on disks. */
#define TASKS 128U
#define FILES_MAX 256U
/* The console and the log are bounded at far less. */
#define FILE_BYTES_MIN (64 * MIB)

/* What QEMU needs of the host's files, where they are: libraries, its firmware. */
static const char *const qemu_files[] = {
    "/lib",
    "/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/local/share/qemu",
};

struct local {
    struct host host;
    /* immutable */
    char *launcher, *cgroup;
    uid_t uid_first, uid_count;
    spawn_fn spawn;
    struct net *net;

    atomic_bool no_user_namespace; /* one was refused, and that was said */
};

uint64_t host_hash(const char *text)
{
    uint64_t h = 0xcbf29ce484222325ULL;

    for (; *text; text++) {
        h = (h ^ (unsigned char)*text) * 0x100000001b3ULL;
    }
    return h;
}

uid_t host_vmm_uid(const char *run_dir, unsigned try, uid_t first, uid_t count)
{
    return first + (uid_t)((host_hash(run_dir) + try) % count);
}

/* The command line of banger-launch ------------------------------------------------------------ */

struct args {
    char *own[LAUNCHER_ARGS_MAX];
    size_t count;
};

static void args_done(struct args *a)
{
    for (size_t i = 0; i < a->count; i++) {
        free(a->own[i]);
    }
}

static void add(struct args *a, const char *fmt, ...) _printf_(2, 3);
static void add(struct args *a, const char *fmt, ...)
{
    va_list ap;

    assert(a->count < LAUNCHER_ARGS_MAX);
    va_start(ap, fmt);
    if (vasprintf(&a->own[a->count++], fmt, ap) < 0) {
        abort();
    }
    va_end(ap);
}

/* One start: as whom, and in what. */
struct attempt {
    const struct local *local;
    const struct host_launch *params;
    const char *program;
    uid_t uid; /* 0 = as who we are */
    bool user_namespace;
    int report_fd; /* its number in the child */
};

static uint64_t file_bytes(uint64_t disk_bytes)
{
    return disk_bytes > FILE_BYTES_MIN ? disk_bytes : FILE_BYTES_MIN;
}

static void add_limits(struct args *a, const struct attempt *t)
{
    const struct host_launch *p = t->params;

    add(a, "as=%llu",
        (p->memory_mib + ADDRESS_SPACE_MIB + p->vcpus * (uint64_t)ADDRESS_SPACE_MIB_PER_VCPU) *
            MIB);
    add(a, "fsize=%llu", (unsigned long long)file_bytes(p->disk_bytes));
    add(a, "nofile=%u", FILES_MAX);
    if (t->uid != 0) {
        add(a, "nproc=%u", TASKS + p->vcpus);
    }
}

static void add_options(struct args *a, const struct attempt *t)
{
    const struct host_launch *p = t->params;

    add(a, "%s", t->local->launcher);
    add(a, "report=%d", t->report_fd);
    if (t->uid != 0) {
        add(a, "uid=%u", t->uid);
        add(a, "gid=%u", t->uid);
    }
    add(a, "userns=%d", t->user_namespace);
    if (t->uid != 0 || t->user_namespace) {
        add(a, "root=1");
        add(a, "kvm=%d", p->kvm);
        for (size_t i = 0; i < ARRAY_LEN(qemu_files); i++) {
            add(a, "bind=%s", qemu_files[i]);
        }
        add(a, "bind=%s", t->program);
    }
    add_limits(a, t);
    if (t->local->cgroup) {
        add(a, "cgroup=%s/%s", t->local->cgroup, strrchr(p->run_dir, '/') + 1);
        add(a, "cgroup_memory=%llu", (unsigned long long)(p->memory_mib + CGROUP_MEMORY_MIB) * MIB);
    }
    add(a, "--");
    add(a, "%s", t->program);
}

/* Starting ------------------------------------------------------------------------------------- */

static int spawn_launcher(const struct attempt *t, int report_fd, pid_t *ret_pid, int *ret_pidfd)
{
    const struct host_launch *p = t->params;
    const char *argv[LAUNCHER_ARGS_MAX + HOST_ARGS_MAX + 1];
    struct spawn_fd fds[SPAWN_FDS_MAX];
    _cleanup_(args_done) struct args a = {0};
    size_t n = 0;

    add_options(&a, t);
    for (size_t i = 0; i < a.count; i++) {
        argv[n++] = a.own[i];
    }
    for (const char *const *arg = p->argv; *arg; arg++) {
        assert(n < ARRAY_LEN(argv) - 1);
        argv[n++] = *arg;
    }
    argv[n] = NULL;
    memcpy(fds, p->fds, p->fd_count * sizeof(*fds));
    fds[p->fd_count] = (struct spawn_fd){.fd = report_fd, .as = t->report_fd};
    return t->local->spawn(
        &(struct spawn_params){
            .argv = argv, .fds = fds, .fd_count = p->fd_count + 1, .new_session = true},
        ret_pid, ret_pidfd);
}

/* Waits for the exec. 0, or -errno with what the launcher said. */
static int await_exec(int report_fd, struct launch_report *ret_report)
{
    int64_t deadline_ms = clock_mono_ms() + REPORT_DEADLINE_MS;
    ssize_t n;
    int r = cancel_wait_fd(NULL, report_fd, POLLIN, deadline_ms);

    (void)snprintf(ret_report->step, sizeof(ret_report->step), "start of " LAUNCH_PROGRAM);
    if (r < 0) {
        return r;
    }
    n = read(report_fd, ret_report, sizeof(*ret_report));
    if (n == 0) {
        return 0;
    }
    ret_report->step[sizeof(ret_report->step) - 1] = '\0';
    return n == (ssize_t)sizeof(*ret_report) && ret_report->errnum > 0 ? -ret_report->errnum
                                                                       : -EPROTO;
}

/* 0; 1 = the launcher could not confine itself, see ret_report; or -errno: it cannot be started. */
static int try_once(const struct attempt *t, struct launch_report *ret_report,
                    struct host_vmm *ret_vmm)
{
    _cleanup_close_ int read_fd = -1, write_fd = -1, pidfd = -1;
    struct vmm_process process;
    int fds[2], r;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    read_fd = fds[0];
    write_fd = fds[1];
    r = spawn_launcher(t, write_fd, &pid, &pidfd);
    if (r < 0) {
        return r;
    }
    close_p(&write_fd);
    r = await_exec(read_fd, ret_report);
    if (r == 0) {
        r = process_identify(pid, &process);
        (void)snprintf(ret_report->step, sizeof(ret_report->step), "start time");
    }
    if (r < 0) {
        ret_report->errnum = -r;
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        (void)spawn_reap(pid);
        return 1;
    }
    *ret_vmm = (struct host_vmm){.process = process, .pidfd = STEAL_FD(pidfd), .exit_fd = -1};
    return 0;
}

/* As try_once, with the next uid while the one before is taken, and without a user namespace where
 * there may be none. */
static int try_all(struct local *l, struct attempt *t, struct launch_report *ret_report,
                   struct host_vmm *ret_vmm)
{
    unsigned tries = l->uid_count < UID_TRIES ? l->uid_count : UID_TRIES;
    int r;

    if (l->uid_count > 0) {
        for (unsigned i = 0; i < tries; i++) {
            t->uid = host_vmm_uid(t->params->run_dir, i, l->uid_first, l->uid_count);
            r = try_once(t, ret_report, ret_vmm);
            if (r != 1 || !str_eq(ret_report->step, LAUNCH_STEP_ALONE)) {
                return r;
            }
        }
        return 1;
    }
    t->user_namespace = !atomic_load(&l->no_user_namespace);
    r = try_once(t, ret_report, ret_vmm);
    if (r == 1 && t->user_namespace && str_eq(ret_report->step, LAUNCH_STEP_USER_NAMESPACE)) {
        if (!atomic_exchange(&l->no_user_namespace, true)) {
            log_warn("VMs are not kept from this user's files: no user namespace: %s",
                     strerror(ret_report->errnum));
        }
        t->user_namespace = false;
        r = try_once(t, ret_report, ret_vmm);
    }
    return r;
}

static int not_confined(const struct local *l, const struct launch_report *report, struct err *err)
{
    if (str_eq(report->step, LAUNCH_STEP_ALONE)) {
        (void)err_set(err, ERR_VMM, "cannot confine '" HOST_QEMU_PROGRAM "': " LAUNCH_STEP_ALONE);
        return err_hint(err, "all uids of the range seem to be in use: a larger vmm_uid_count");
    }
    err_set_errno(err, ERR_VMM, report->errnum, "cannot confine '" HOST_QEMU_PROGRAM "': %s",
                  report->step);
    if (l->uid_count > 0 && report->errnum == EINVAL) {
        return err_hint(err,
                        "does this machine or container have the uids from %u? vmm_uid_first "
                        "and vmm_uid_count name others",
                        l->uid_first);
    }
    return -1;
}

static int local_launch(struct host *host, const struct host_launch *params,
                        struct host_vmm *ret_vmm, struct err *err)
{
    struct local *l = (struct local *)host;
    _cleanup_free_ char *found = spawn_find_program(HOST_QEMU_PROGRAM);
    _cleanup_free_ char *program = found ? realpath(found, NULL) : NULL;
    struct launch_report report = {.errnum = 0};
    struct attempt t = {.local = l, .params = params, .program = program, .report_fd = 3};
    int r;

    assert(params->fd_count < SPAWN_FDS_MAX);
    if (!program) {
        (void)err_set(err, ERR_UNSUPPORTED, "'" HOST_QEMU_PROGRAM "' is not installed");
        return err_hint(err, "install qemu-system-x86 (apt-get install qemu-system-x86)");
    }
    for (size_t i = 0; i < params->fd_count; i++) {
        t.report_fd = params->fds[i].as >= t.report_fd ? params->fds[i].as + 1 : t.report_fd;
    }
    if (l->cgroup) {
        cgroup_sweep(l->cgroup);
    }
    r = try_all(l, &t, &report, ret_vmm);
    if (r == -ENOENT) {
        (void)err_set(err, ERR_UNSUPPORTED, "'%s' is not installed", l->launcher);
        return err_hint(err, LAUNCH_PROGRAM " belongs beside bangerd, or in ../libexec/banger");
    }
    if (r < 0) {
        return err_set_errno(err, ERR_VMM, r, "cannot start '%s'", l->launcher);
    }
    return r == 0 ? 0 : not_confined(l, &report, err);
}

/* A pidfd of a VMM, or -errno: -ESRCH when it is gone, -EPERM when it is none of ours, which alone
 * have a uid of our range: a run directory may stand on anybody's command line. */
static int open_vmm(const struct local *l, const struct vmm_process *process, const char *run_dir,
                    uid_t *ret_uid)
{
    _cleanup_close_ int pidfd = process_open(process, run_dir);
    int64_t uid = l->uid_count > 0 && pidfd >= 0 ? process_uid(process->pid) : 0;

    if (pidfd >= 0 && l->uid_count > 0 &&
        (uid < (int64_t)l->uid_first || uid - (int64_t)l->uid_first >= (int64_t)l->uid_count)) {
        return -EPERM;
    }
    *ret_uid = (uid_t)uid;
    return pidfd < 0 ? pidfd : STEAL_FD(pidfd);
}

static int local_kill(struct host *host, const struct vmm_process *process, const char *run_dir,
                      struct err *err)
{
    uid_t uid;
    _cleanup_close_ int pidfd = open_vmm((struct local *)host, process, run_dir, &uid);
    int r = pidfd;

    if (pidfd >= 0) {
        r = pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
    }
    return r == 0 || r == -ESRCH
               ? 0
               : err_set_errno(err, ERR_DENIED, r, "cannot end process %d", process->pid);
}

/* Who has its uid may raise a limit of a process, and so may root, but not in every container. For
 * this thread alone, and only its real uid, which gives no right away (setresuid(2), prlimit(2)).
 */
static int raise_file_limit(pid_t pid, uid_t uid, uint64_t bytes)
{
    struct rlimit limit;
    int r;

    if (uid != 0 &&
        (syscall(SYS_setresgid, uid, -1, -1) < 0 || syscall(SYS_setresuid, uid, -1, -1) < 0)) {
        return -errno;
    }
    r = prlimit(pid, RLIMIT_FSIZE, NULL, &limit);
    if (r == 0 && limit.rlim_cur < bytes) {
        limit.rlim_cur = bytes;
        r = limit.rlim_max < bytes ? (errno = EPERM, -1) : prlimit(pid, RLIMIT_FSIZE, &limit, NULL);
    }
    r = r < 0 ? -errno : 0;
    if (uid != 0 &&
        (syscall(SYS_setresuid, 0, -1, -1) < 0 || syscall(SYS_setresgid, 0, -1, -1) < 0)) {
        abort();
    }
    return r;
}

static int local_allow_disk(struct host *host, const struct vmm_process *process,
                            const char *run_dir, uint64_t disk_bytes, struct err *err)
{
    uid_t uid;
    _cleanup_close_ int pidfd = open_vmm((struct local *)host, process, run_dir, &uid);
    int r = pidfd < 0 ? pidfd : raise_file_limit(process->pid, uid, file_bytes(disk_bytes));

    return r == 0 ? 0
                  : err_set_errno(err, ERR_DENIED, r, "cannot let process %d have more disk",
                                  process->pid);
}

/* As the uid that may look at it, for this thread alone: root may not without one more capability.
 * Who is not root stays who it is. */
static int local_pss(struct host *host, const struct vmm_process *process, const char *run_dir,
                     uint64_t *ret_bytes, struct err *err)
{
    uid_t uid;
    _cleanup_close_ int pidfd = open_vmm((struct local *)host, process, run_dir, &uid);
    int r = pidfd;

    if (pidfd >= 0) {
        (void)setfsgid(uid);
        (void)setfsuid(uid);
        r = process_pss(process->pid, ret_bytes);
        (void)setfsuid(0);
        (void)setfsgid(0);
    }
    return r == 0 ? 0
                  : err_set_errno(err, ERR_DENIED, r, "cannot measure process %d", process->pid);
}

static int local_status(struct host *host, struct host_status *ret_status, struct err *err)
{
    struct local *l = (struct local *)host;

    (void)err;
    *ret_status =
        (struct host_status){.pid = getpid(), .uid_first = l->uid_first, .uid_count = l->uid_count};
    return 0;
}

static int local_net_open(struct host *host, const struct host_subnet *subnet, unsigned *ret_mtu,
                          struct err *err)
{
    return net_open(((struct local *)host)->net, subnet, ret_mtu, err);
}

static int local_net_refresh(struct host *host, unsigned *ret_mtu, struct err *err)
{
    return net_refresh(((struct local *)host)->net, ret_mtu, err);
}

static int local_net_close(struct host *host, struct err *err)
{
    return net_close(((struct local *)host)->net, err);
}

static int local_net_dns(struct host *host, int ret_fds[HOST_DNS_SOCKETS], struct err *err)
{
    return net_dns(((struct local *)host)->net, ret_fds, err);
}

static int local_tap_open(struct host *host, unsigned tap, int *ret_fd, struct err *err)
{
    return net_tap_open(((struct local *)host)->net, tap, ret_fd, err);
}

static int local_tap_delete(struct host *host, const unsigned *taps, size_t count, struct err *err)
{
    return net_tap_delete(((struct local *)host)->net, taps, count, err);
}

static int local_tap_list(struct host *host, unsigned **ret_taps, size_t *ret_count,
                          struct err *err)
{
    return net_tap_list(((struct local *)host)->net, ret_taps, ret_count, err);
}

static int local_nic_attach(struct host *host, const struct host_nic *nic, struct err *err)
{
    return net_attach(((struct local *)host)->net, nic, err);
}

static int local_nic_detach(struct host *host, const struct host_nic *nic, struct err *err)
{
    return net_detach(((struct local *)host)->net, nic, err);
}

static int local_watch_fd(struct host *host)
{
    (void)host;
    return -1;
}

static void local_free(struct host *host)
{
    struct local *l = (struct local *)host;

    net_free(l->net);
    cgroup_close(l->cgroup);
    free(l->launcher);
    free(l);
}

static const struct host_ops local_ops = {
    .mode = "in process",
    .launch = local_launch,
    .kill = local_kill,
    .allow_disk = local_allow_disk,
    .pss = local_pss,
    .status = local_status,
    .net_open = local_net_open,
    .net_refresh = local_net_refresh,
    .net_close = local_net_close,
    .net_dns = local_net_dns,
    .tap_open = local_tap_open,
    .tap_delete = local_tap_delete,
    .tap_list = local_tap_list,
    .nic_attach = local_nic_attach,
    .nic_detach = local_nic_detach,
    .watch_fd = local_watch_fd,
    .free = local_free,
};

struct host *host_local_new(const struct host_local_params *params)
{
    struct local *l = x_calloc(1, sizeof(*l));
    char why[CGROUP_WHY_SIZE];

    l->host.ops = &local_ops;
    l->launcher = x_strdup(params->launcher);
    l->uid_first = params->uid_first;
    l->uid_count = params->uid_count;
    l->spawn = params->spawn ? params->spawn : spawn_process;
    l->net = net_new(&(struct net_params){
        .runtime_dir = params->name, .owner = params->owner, .spawn = l->spawn});
    atomic_init(&l->no_user_namespace, false);
    l->cgroup = cgroup_open(params->cgroup_root, params->name, why);
    if (!l->cgroup) {
        log_info("VMs get no cgroup of their own: %s", why);
    }
    return &l->host;
}
