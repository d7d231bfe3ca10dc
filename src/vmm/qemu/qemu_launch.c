#include "vmm/qemu/qemu_launch.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/spawn.h"
#include "base/str.h"
#include "vmm/qemu/qemu_cmdline.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* The daemon, and a connection of an earlier one that QEMU has not yet seen the end of. */
#define SOCKET_BACKLOG 4
#define VERSION_DEADLINE_MS 10000
#define VERSION_OUTPUT_MAX 4096

/* QEMU opens a disk or file by descriptor only in the mode that the descriptor has. */
static int check_mode(int fd, int mode, const char *what, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0) {
        return err_set_errno(err, ERR_INTERNAL, errno, "%s", what);
    }
    if ((flags & O_ACCMODE) != mode) {
        return err_set(err, ERR_INTERNAL, "%s: the descriptor has another access mode", what);
    }
    return 0;
}

static int check_descriptors(const struct vmm_spec *spec, struct err *err)
{
    if (spec->root_disk_fd >= 0 && check_mode(spec->root_disk_fd, O_RDONLY, "root disk", err) < 0) {
        return -1;
    }
    if (spec->data_disk_fd >= 0 && check_mode(spec->data_disk_fd, O_RDWR, "data disk", err) < 0) {
        return -1;
    }
    return check_mode(spec->console_fd, O_WRONLY, "console", err);
}

/* What launch holds until the process runs. */
struct launching {
    struct qemu_cmdline cmdline;
    int qmp_listen_fd, agent_listen_fd, qmp_fd;
};

static void launching_done(struct launching *l)
{
    qemu_cmdline_done(&l->cmdline);
    close_p(&l->qmp_listen_fd);
    close_p(&l->agent_listen_fd);
    close_p(&l->qmp_fd);
}

/* QEMU opens these two again, by /proc/self/fd, and its uid is not ours. Nobody else gets that far:
 * they lie in directories that are ours alone. Where it is ours it must not write. 0 or -errno. */
static int let_read(int fd)
{
    struct stat st;

    if (fd < 0) {
        return 0;
    }
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    return (st.st_mode & 0777) == 0444 || fchmod(fd, 0444) == 0 ? 0 : -errno;
}

static int prepare(const struct vmm_spec *spec, struct launching *l, struct err *err)
{
    int r;

    if (qemu_cmdline_build(spec, &l->cmdline, err) < 0 || check_descriptors(spec, err) < 0) {
        return -1;
    }
    r = let_read(spec->kernel_fd);
    if (r == 0) {
        r = let_read(spec->initramfs_fd);
    }
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "cannot let QEMU read kernel and initramfs");
    }
    l->agent_listen_fd = fs_unix_listen(spec->run_dir_fd, QEMU_AGENT_SOCKET, SOCKET_BACKLOG);
    if (l->agent_listen_fd < 0) {
        return err_set_errno(err, ERR_IO, l->agent_listen_fd, "'%s/" QEMU_AGENT_SOCKET "'",
                             spec->run_dir);
    }
    l->qmp_listen_fd = fs_unix_listen(spec->run_dir_fd, QEMU_QMP_SOCKET, SOCKET_BACKLOG);
    if (l->qmp_listen_fd < 0) {
        return err_set_errno(err, ERR_IO, l->qmp_listen_fd, "'%s/" QEMU_QMP_SOCKET "'",
                             spec->run_dir);
    }
    /* Before the launch, so that nobody is in front of us in the queue. */
    l->qmp_fd = fs_unix_connect(spec->run_dir_fd, QEMU_QMP_SOCKET);
    if (l->qmp_fd < 0) {
        return err_set_errno(err, ERR_IO, l->qmp_fd, "'%s/" QEMU_QMP_SOCKET "'", spec->run_dir);
    }
    return 0;
}

static uint64_t disk_bytes(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

static int launch(const struct vmm_spec *spec, const struct launching *l,
                  struct host_vmm *ret_process, struct err *err)
{
    const struct spawn_fd all[] = {
        {.fd = spec->log_fd, .as = STDOUT_FILENO},
        {.fd = spec->log_fd, .as = STDERR_FILENO},
        {.fd = spec->kernel_fd, .as = QEMU_FD_KERNEL},
        {.fd = spec->initramfs_fd, .as = QEMU_FD_INITRAMFS},
        {.fd = spec->root_disk_fd, .as = QEMU_FD_ROOT_DISK},
        {.fd = spec->data_disk_fd, .as = QEMU_FD_DATA_DISK},
        {.fd = spec->console_fd, .as = QEMU_FD_CONSOLE},
        {.fd = l->qmp_listen_fd, .as = QEMU_FD_QMP},
        {.fd = l->agent_listen_fd, .as = QEMU_FD_AGENT},
        {.fd = spec->memory_fd, .as = QEMU_FD_MEMORY},
        {.fd = spec->state_fd, .as = QEMU_FD_STATE},
        {.fd = spec->tap_fd, .as = QEMU_FD_TAP},
    };
    struct spawn_fd fds[ARRAY_LEN(all)];
    struct host_launch params = {
        .argv = (const char *const *)l->cmdline.argv,
        .fds = fds,
        .run_dir = spec->run_dir,
        .memory_mib = spec->memory_mib,
        .vcpus = spec->vcpus,
        .disk_bytes = disk_bytes(spec->data_disk_fd),
        .kvm = spec->accel == VMM_ACCEL_KVM,
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i].fd >= 0) {
            fds[params.fd_count++] = all[i];
        }
    }
    return host_launch(spec->host, &params, ret_process, err);
}

int qemu_start(const struct vmm_spec *spec, struct host_vmm *ret_process, int *ret_qmp_fd,
               struct err *err)
{
    _cleanup_(launching_done) struct launching l = {
        .qmp_listen_fd = -1,
        .agent_listen_fd = -1,
        .qmp_fd = -1,
    };

    if (prepare(spec, &l, err) < 0 || launch(spec, &l, ret_process, err) < 0) {
        return -1;
    }
    *ret_qmp_fd = STEAL_FD(l.qmp_fd);
    return 0;
}

/* Version ------------------------------------------------------------------------------------- */

static int spawn_error(int r, struct err *err)
{
    if (r == -ENOENT) {
        (void)err_set(err, ERR_UNSUPPORTED, "'" QEMU_PROGRAM "' is not installed");
        return err_hint(err, "install qemu-system-x86 (apt-get install qemu-system-x86)");
    }
    return err_set_errno(err, ERR_VMM, r, "cannot start '" QEMU_PROGRAM "'");
}

/* Everything until the end of the stream. 0 or -errno. */
static int read_output(int fd, struct buf *out)
{
    int64_t deadline_ms = clock_mono_ms() + VERSION_DEADLINE_MS;

    for (;;) {
        int r = cancel_wait_fd(NULL, fd, POLLIN, deadline_ms);
        ssize_t n = r < 0 ? r : buf_read_fd(out, fd, VERSION_OUTPUT_MAX);

        if (n <= 0) {
            return (int)n;
        }
    }
}

int qemu_version(char *ret_version, struct err *err)
{
    static const char *const argv[] = {QEMU_PROGRAM, "--version", NULL};
    _cleanup_free_ char *text = NULL;
    _cleanup_buf_ struct buf out = {.max = VERSION_OUTPUT_MAX};
    _cleanup_close_ int read_fd = -1, write_fd = -1, pidfd = -1;
    int pipe_fds[2], r;
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return err_set_errno(err, ERR_VMM, errno, "pipe");
    }
    read_fd = pipe_fds[0];
    write_fd = pipe_fds[1];
    r = spawn_process(
        &(struct spawn_params){
            .argv = argv,
            .fds = &(struct spawn_fd){.fd = write_fd, .as = STDOUT_FILENO},
            .fd_count = 1,
        },
        &pid, &pidfd);
    if (r < 0) {
        return spawn_error(r, err);
    }
    close_p(&write_fd);
    r = read_output(read_fd, &out);
    if (r < 0) {
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    }
    (void)spawn_reap(pid);
    if (r < 0) {
        return err_set_errno(err, ERR_VMM, r, "'" QEMU_PROGRAM " --version'");
    }
    text = buf_steal_str(&out);
    if (qemu_parse_version(text, ret_version, VMM_VERSION_SIZE) < 0) {
        return err_set(err, ERR_UNSUPPORTED, "'" QEMU_PROGRAM " --version' names no version");
    }
    return 0;
}
