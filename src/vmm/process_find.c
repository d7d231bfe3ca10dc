/* Finds VMMs by what is on their command lines: those that nobody could note before we died. */
#include "vmm/process_find.h"

#include "base/fs.h"
#include "base/str.h"

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

/* A process that ends meanwhile is none. 0 or -errno: then nobody knows what it is. */
static int look_at(pid_t pid, const char *run_dirs, process_found_fn fn, void *arg)
{
    _cleanup_free_ char *cmdline = NULL;
    const struct vmm_ops *ops;
    struct vmm_process process;
    char path[48], name[NAME_SIZE];
    size_t len;
    int r;

    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    /* A zombie has no command line. */
    r = fs_read_file(AT_FDCWD, path, CMDLINE_MAX, &cmdline, &len);
    if (r == 0 && (ops = find_ops(cmdline, len)) && find_name(cmdline, len, run_dirs, name)) {
        r = process_identify(pid, &process);
        if (r == 0) {
            fn(arg, &process, ops, name);
        }
    }
    return r == -ENOENT || r == -ESRCH || r == -EFBIG ? 0 : r;
}

int process_find_all(const char *run_dirs, process_found_fn fn, void *arg)
{
    DIR *dir = opendir("/proc");
    struct dirent *e;
    int r = 0;

    if (!dir) {
        return -errno;
    }
    while (r == 0 && (e = readdir(dir))) {
        uint64_t pid;

        if (str_to_u64(e->d_name, INT32_MAX, &pid) == 0) {
            r = look_at((pid_t)pid, run_dirs, fn, arg);
        }
    }
    (void)closedir(dir);
    return r;
}
