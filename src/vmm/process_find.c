/* Finds VMMs by what is on their command lines: those that nobody could note before we died. */
#include "vmm/process_find.h"

#include "base/str.h"
#include "base/test_point.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#define CMDLINE_MAX (256U * 1024)
#define NAME_SIZE 64

/* The back end whose program this is. So an editor that has a VM's log open is not taken for a VMM;
 * the run directory is on its command line, too. */
static const struct vmm_ops *find_ops(const char *cmdline, size_t len)
{
    size_t end = strnlen(cmdline, len);
    const char *slash = memrchr(cmdline, '/', end);
    const char *program = slash ? slash + 1 : cmdline;
    size_t i = 0;
    const struct vmm_ops *ops;

    while ((ops = vmm_ops_at(i++))) {
        if (ops->program && strlen(ops->program) == (size_t)(cmdline + end - program) &&
            memcmp(program, ops->program, strlen(ops->program)) == 0) {
            return ops;
        }
    }
    return NULL;
}

/* The component behind run_dirs, where an argument has run_dirs/NAME. */
static bool find_name(const char *cmdline, size_t len, const char *run_dirs,
                      char ret_name[NAME_SIZE])
{
    size_t n = strlen(run_dirs);
    const char *end = cmdline + len;

    for (const char *p = cmdline; (p = memmem(p, (size_t)(end - p), run_dirs, n)); p++) {
        const char *name = p + n + 1;
        size_t size = 0;

        if (p + n >= end || p[n] != '/') {
            continue;
        }
        while (name + size < end && (isalnum((unsigned char)name[size]) ||
                                     strchr("-._", name[size] ? name[size] : '/'))) {
            size++;
        }
        if (size > 0 && size < NAME_SIZE) {
            memcpy(ret_name, name, size);
            ret_name[size] = '\0';
            return true;
        }
    }
    return false;
}

/* Into room for CMDLINE_MAX + 1 bytes. How many, or -errno; a zombie has none. No fault point:
 * there are as many of these calls as processes on the host. */
static ssize_t read_cmdline(pid_t pid, char *ret_cmdline)
{
    _cleanup_close_ int fd = -1;
    char path[48];
    size_t len = 0;
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    do {
        n = read(fd, ret_cmdline + len, CMDLINE_MAX + 1 - len);
        len += n > 0 ? (size_t)n : 0;
    } while ((n > 0 && len <= CMDLINE_MAX) || (n < 0 && errno == EINTR));
    return n < 0 ? -errno : len > CMDLINE_MAX ? -EFBIG : (ssize_t)len;
}

/* A process that ends meanwhile is none. 0 or -errno: then nobody knows what it is. */
static int look_at(pid_t pid, const char *run_dirs, char *room, process_found_fn fn, void *arg)
{
    const struct vmm_ops *ops;
    struct vmm_process process;
    char name[NAME_SIZE];
    ssize_t n = read_cmdline(pid, room);
    int r = n < 0 ? (int)n : 0;

    if (n > 0 && (ops = find_ops(room, (size_t)n)) && find_name(room, (size_t)n, run_dirs, name)) {
        r = process_identify(pid, &process);
        if (r == 0) {
            fn(arg, &process, ops, name);
        }
    }
    return r == -ENOENT || r == -ESRCH || r == -EFBIG ? 0 : r;
}

int process_find_all(const char *run_dirs, process_found_fn fn, void *arg)
{
    _cleanup_free_ char *room = NULL;
    struct dirent *e;
    DIR *dir;
    int r = FAULT_POINT("process.find");

    if (r < 0) {
        return r;
    }
    dir = opendir("/proc");
    if (!dir) {
        return -errno;
    }
    room = x_calloc(1, CMDLINE_MAX + 1);
    while (r == 0 && (e = readdir(dir))) {
        uint64_t pid;

        if (str_to_u64(e->d_name, INT32_MAX, &pid) == 0) {
            r = look_at((pid_t)pid, run_dirs, room, fn, arg);
        }
    }
    (void)closedir(dir);
    return r;
}
