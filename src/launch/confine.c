#include "launch/launch_priv.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CAPABILITIES_MAX 64
#define CGROUP_TRIES 5

/* Groups ------------------------------------------------------------------------------------------
 */

static int write_control(const char *cgroup, const char *name, const char *value)
{
    char path[PATH_MAX];
    _cleanup_close_ int fd = -1;

    if (snprintf(path, sizeof(path), "%s/%s", cgroup, name) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    /* O_CREAT changes nothing where these are files of the kernel's. */
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

static int control_number(const char *cgroup, const char *name, uint64_t value)
{
    char text[24];

    if (value == 0) {
        return 0;
    }
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return write_control(cgroup, name, text);
}

static int make_cgroup(const struct launch_options *o)
{
    int r;

    if (mkdir(o->cgroup, 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    r = control_number(o->cgroup, "memory.max", o->cgroup_memory);
    if (r == 0) {
        r = control_number(o->cgroup, "pids.max", o->tasks);
    }
    return r < 0 ? r : write_control(o->cgroup, "cgroup.procs", "0");
}

static int enter_cgroup(const struct launch_options *o)
{
    int r = o->cgroup ? make_cgroup(o) : 0;

    /* Somebody who removes the empty ones may come between (host/cgroup.c). */
    for (int i = 0; r == -ENOENT && i < CGROUP_TRIES; i++) {
        r = make_cgroup(o);
    }
    return r;
}

/* Who we are --------------------------------------------------------------------------------------
 */

static int drop_bounding_set(const struct launch_options *o)
{
    if (!o->has_ids && !o->user_namespace) {
        return 0; /* nobody may who has no capabilities */
    }
    for (int cap = 0; cap < CAPABILITIES_MAX; cap++) {
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int become(const struct launch_options *o)
{
    if (!o->has_ids) {
        return 0;
    }
    return setgroups(0, NULL) < 0 || setresgid(o->gid, o->gid, o->gid) < 0 ||
                   setresuid(o->uid, o->uid, o->uid) < 0
               ? -errno
               : 0;
}

static int drop_capabilities(const struct launch_options *o)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    (void)o;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
        syscall(SYS_capset, &header, none) < 0) {
        return -errno;
    }
    return 0;
}

static int no_new_privileges(const struct launch_options *o)
{
    (void)o;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/*
 * Whether we are alone with our uid. The kernel counts the tasks of each uid for RLIMIT_NPROC, so
 * it can say without a file, a lock or a race: when two begin at the same time at least one of them
 * sees the other. Under a limit of two a fork fails if anybody else is there.
 */
static int check_alone(const struct launch_options *o)
{
    const struct rlimit two = {.rlim_cur = 2, .rlim_max = RLIM_INFINITY};
    struct rlimit before, limit = two;
    pid_t pid;

    if (!o->has_ids) {
        return 0;
    }
    if (getrlimit(RLIMIT_NPROC, &before) < 0) {
        return -errno;
    }
    limit.rlim_max = before.rlim_max;
    if (setrlimit(RLIMIT_NPROC, &limit) < 0) {
        return -errno;
    }
    pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    if (pid < 0) {
        return errno == EAGAIN ? -EUSERS : -errno;
    }
    while (waitpid(pid, NULL, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return setrlimit(RLIMIT_NPROC, &before) < 0 ? -errno : 0;
}

/* Limits ------------------------------------------------------------------------------------------
 */

/* No more than there may be already. */
static int limit(int what, uint64_t most, bool for_now)
{
    struct rlimit r;

    if (getrlimit(what, &r) < 0) {
        return -errno;
    }
    if (r.rlim_max == RLIM_INFINITY || r.rlim_max > most) {
        r.rlim_cur = most;
        r.rlim_max = for_now ? r.rlim_max : most;
    } else {
        r.rlim_cur = r.rlim_max;
    }
    return setrlimit(what, &r) < 0 ? -errno : 0;
}

static int set_limits(const struct launch_options *o)
{
    const struct {
        int what;
        uint64_t most;
        bool wanted;
        bool for_now; /* the host may raise it; the filter keeps the VMM from it */
    } limits[] = {
        {RLIMIT_CORE, 0, true, false}, /* guest memory has no place in a file */
        {RLIMIT_MSGQUEUE, 0, true, false},
        {RLIMIT_MEMLOCK, 0, true, false},
        {RLIMIT_NPROC, o->tasks, o->tasks != 0, false},
        {RLIMIT_NOFILE, o->files, o->files != 0, false},
        {RLIMIT_FSIZE, o->file_bytes, o->file_bytes != 0, true},
        {RLIMIT_AS, o->memory_bytes, o->memory_bytes != 0, false},
    };
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(limits) && r == 0; i++) {
        r = limits[i].wanted ? limit(limits[i].what, limits[i].most, limits[i].for_now) : 0;
    }
    return r;
}

/* The steps ---------------------------------------------------------------------------------------
 */

static int close_others(const struct launch_options *o)
{
    return syscall(SYS_close_range, o->report_fd + 1, ~0U, 0) < 0 ||
                   fcntl(o->report_fd, F_SETFD, FD_CLOEXEC) < 0
               ? -errno
               : 0;
}

static int user_namespace(const struct launch_options *o)
{
    return o->user_namespace ? launch_user_namespace() : 0;
}

static int own_root(const struct launch_options *o)
{
    return o->own_root ? launch_own_root(o) : 0;
}

static int filter(const struct launch_options *o)
{
    (void)o;
    return launch_filter();
}

int launch_confine(const struct launch_options *o, const char **ret_step)
{
    static const struct {
        const char *name;
        int (*fn)(const struct launch_options *o);
    } steps[] = {
        {"descriptors", close_others},
        {"cgroup", enter_cgroup},
        {LAUNCH_STEP_USER_NAMESPACE, user_namespace},
        {"namespaces and root directory", own_root},
        {"capability bounding set", drop_bounding_set},
        {"user and group", become},
        {"capabilities", drop_capabilities},
        {"no_new_privs", no_new_privileges},
        {LAUNCH_STEP_ALONE, check_alone},
        {"limits", set_limits},
        {"system call filter", filter},
    };

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int r = steps[i].fn(o);

        if (r < 0) {
            *ret_step = steps[i].name;
            return r;
        }
    }
    return 0;
}
