#include "host/process.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/test_point.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define STAT_MAX 4096
#define STATUS_MAX 65536
/* Our command lines hold a kernel command line and a few paths. */
#define CMDLINE_MAX (256U * 1024)
/* start_ticks is field 22; the first one after comm is field 3. */
#define FIELD_AFTER_COMM 3
#define FIELD_START_TICKS 22

int process_parse_start_ticks(const char *stat, uint64_t *ret_ticks)
{
    const char *p = strrchr(stat, ')');
    char digits[24];
    size_t n;

    if (!p || p[1] != ' ') {
        return -EPROTO;
    }
    p += 2;
    for (int field = FIELD_AFTER_COMM; field < FIELD_START_TICKS; field++) {
        p = strchr(p, ' ');
        if (!p) {
            return -EPROTO;
        }
        p++;
    }
    n = strcspn(p, " \n");
    if (n == 0 || n >= sizeof(digits)) {
        return -EPROTO;
    }
    memcpy(digits, p, n);
    digits[n] = '\0';
    return str_to_u64(digits, UINT64_MAX, ret_ticks) < 0 ? -EPROTO : 0;
}

/* Whether c, which may be the NUL between arguments, is one of the set. */
static bool bounds(char c, const char *set)
{
    return c == '\0' || strchr(set, c) != NULL;
}

bool process_cmdline_has_path(const char *cmdline, size_t len, const char *path)
{
    size_t n = strlen(path);
    const char *end = cmdline + len;

    if (n == 0) {
        return false;
    }
    for (const char *p = cmdline; p < end; p++) {
        p = memmem(p, (size_t)(end - p), path, n);
        if (!p) {
            return false;
        }
        if ((p == cmdline || bounds(p[-1], "=,:")) && (p + n == end || bounds(p[n], "/,:"))) {
            return true;
        }
    }
    return false;
}

static int read_start_ticks(pid_t pid, uint64_t *ret_ticks)
{
    _cleanup_free_ char *stat = NULL;
    char path[48];
    size_t len;
    int r;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    r = fs_read_file(AT_FDCWD, path, STAT_MAX, &stat, &len);
    return r < 0 ? r : process_parse_start_ticks(stat, ret_ticks);
}

int process_boot_id(char ret_id[BOOT_ID_SIZE])
{
    _cleanup_free_ char *text = NULL;
    const size_t size = BOOT_ID_SIZE;
    size_t len, n;
    int r = 0;

    if (TEST_BOOT_ID()) {
        text = x_strdup(TEST_BOOT_ID());
    } else {
        r = fs_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 256, &text, &len);
    }
    if (r < 0) {
        return r;
    }
    n = strcspn(text, "\n");
    if (n == 0 || n >= size) {
        return -EPROTO;
    }
    memcpy(ret_id, text, n);
    memset(ret_id + n, 0, size - n);
    return 0;
}

int process_identify(pid_t pid, struct vmm_process *ret_process)
{
    struct vmm_process p = {.pid = pid};
    int r = read_start_ticks(pid, &p.start_ticks);

    if (r == 0) {
        r = process_boot_id(p.boot_id);
    }
    if (r == 0) {
        *ret_process = p;
    }
    return r;
}

/* 0 when pid is the process that was noted and run_dir is on its command line, else -ESRCH. Other
 * errors (no memory, no descriptors) say nothing about it. */
static int check_identity(const struct vmm_process *process, const char *run_dir)
{
    _cleanup_free_ char *cmdline = NULL;
    struct vmm_process now;
    char path[48];
    size_t len;
    int r = FAULT_POINT("process") ?: process_identify(process->pid, &now);

    if (r == 0) {
        if (now.start_ticks != process->start_ticks || !str_eq(now.boot_id, process->boot_id)) {
            return -ESRCH;
        }
        (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", process->pid);
        r = fs_read_file(AT_FDCWD, path, CMDLINE_MAX, &cmdline, &len);
    }
    if (r == 0 && !process_cmdline_has_path(cmdline, len, run_dir)) {
        r = -ESRCH;
    }
    return r == -ENOENT ? -ESRCH : r;
}

int process_open(const struct vmm_process *process, const char *run_dir)
{
    _cleanup_close_ int pidfd = -1;
    int r;

    if (process->pid <= 0) {
        return -ESRCH;
    }
    pidfd = pidfd_open(process->pid, 0);
    if (pidfd < 0) {
        return errno == EINVAL ? -ESRCH : -errno;
    }
    r = check_identity(process, run_dir);
    if (r < 0) {
        return r;
    }
    /* /proc was read by pid. The pidfd's process is still there, so the pid was its all along. */
    if (pidfd_send_signal(pidfd, 0, NULL, 0) < 0 && errno != EPERM) {
        return -errno;
    }
    return STEAL_FD(pidfd);
}

void process_collect(int pidfd, struct vmm_exit *ret_exit)
{
    struct vmm_exit result = {.code = -1};
    siginfo_t info = {0};
    int r;

    do {
        r = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
    } while (r < 0 && errno == EINTR);
    if (r == 0 && info.si_pid != 0) {
        if (info.si_code == CLD_EXITED) {
            result.code = info.si_status;
        } else {
            result.signal = info.si_status;
        }
    }
    *ret_exit = result;
}

int64_t process_uid(pid_t pid)
{
    _cleanup_free_ char *path = x_asprintf("/proc/%d/status", pid);
    _cleanup_free_ char *text = NULL;
    const char *line;
    unsigned uid;
    size_t len;

    if (fs_read_file(AT_FDCWD, path, STATUS_MAX, &text, &len) < 0) {
        return -1;
    }
    line = strstr(text, "\nUid:");
    return line && sscanf(line, "\nUid: %u", &uid) == 1 ? (int64_t)uid : -1;
}

int process_pss(pid_t pid, uint64_t *ret_bytes)
{
    _cleanup_free_ char *path = x_asprintf("/proc/%d/smaps_rollup", pid);
    _cleanup_free_ char *text = NULL;
    const char *line;
    size_t len;
    int r = fs_read_file(AT_FDCWD, path, STATUS_MAX, &text, &len);

    if (r < 0) {
        return r;
    }
    line = strstr(text, "\nPss:");
    if (!line || sscanf(line, "\nPss: %" SCNu64, ret_bytes) != 1) {
        return -ENODATA;
    }
    *ret_bytes *= 1024;
    return 0;
}
