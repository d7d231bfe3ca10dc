/* What the host says of a VM's process. */
#include "vm/capability.h"

#include "base/str.h"
#include "vm/vm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROC_TEXT_MAX 8192

/* A file of a process's directory. */
static char *read_proc(pid_t pid, const char *name, int *ret_error)
{
    _cleanup_free_ char *path = x_asprintf("/proc/%d/%s", (int)pid, name);
    _cleanup_free_ char *text = x_calloc(1, PROC_TEXT_MAX);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, PROC_TEXT_MAX - 1);

    *ret_error = n < 0 ? errno : 0;
    return n < 0 ? NULL : STEAL_PTR(text);
}

int64_t vm_cpu_ms(pid_t pid)
{
    int error;
    _cleanup_free_ char *text = read_proc(pid, "stat", &error);
    const char *close = text ? strrchr(text, ')') : NULL;
    uint64_t user, kernel;

    if (!close ||
        sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
               &user, &kernel) != 2) {
        return -1;
    }
    return (int64_t)((user + kernel) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void put_rss(json_t *o, pid_t pid)
{
    int error;
    _cleanup_free_ char *text = read_proc(pid, "statm", &error);
    uint64_t pages;

    if (text && sscanf(text, "%*u %" SCNu64, &pages) == 1) {
        json_put_int(o, "rss_bytes", (long long)(pages * (uint64_t)sysconf(_SC_PAGESIZE)));
    } else {
        json_put(o, "rss_bytes", json_null());
    }
}

/* With root VMMs have uids of their own, and the daemon has no power over them. */
static int measure_pss(const struct vm_run *run, uint64_t *ret_bytes, struct err *err)
{
    const struct vmm_process *process = run->ops->process(run->vmm);
    _cleanup_free_ char *run_dir = x_asprintf("%s/%s", run->vms->run_dir, run->vm_id);
    int r = process_pss(process->pid, ret_bytes);

    return r == 0 ? 0
           : r == -EACCES || r == -EPERM
               ? host_pss(run->vms->params.host, process, run_dir, ret_bytes, err)
               : err_set_errno(err, ERR_IO, r, "its memory");
}

static void put_pss(json_t *o, const struct vm_run *run)
{
    uint64_t bytes = 0;
    struct err err;
    bool known = measure_pss(run, &bytes, &err) == 0;

    json_put(o, "pss_bytes", known ? json_integer((json_int_t)bytes) : json_null());
    json_put_str(o, "pss_why", known ? NULL : err.message);
}

static void add_stats(const struct vm_run *run, json_t *o)
{
    pid_t pid = run->ops->process(run->vmm)->pid;

    put_rss(o, pid);
    put_pss(o, run);
}

const struct vm_capability vm_cap_stats = {
    .name = "stats",
    .add_stats = add_stats,
};
