#include "base/spawn.h"

#include "base/attr.h"
#include "base/str.h"
#include "base/test_point.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

static const char *const path_only[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    NULL,
};

/* Sources are first duplicated above every target, so that no dup2 overwrites a later source. */
static int add_fds(posix_spawn_file_actions_t *actions, const struct spawn_params *params,
                   int copies[SPAWN_FDS_MAX])
{
    int top = 2;
    int r = 0;

    for (size_t i = 0; i < params->fd_count; i++) {
        top = params->fds[i].as > top ? params->fds[i].as : top;
    }
    for (size_t i = 0; i < params->fd_count; i++) {
        copies[i] = fcntl(params->fds[i].fd, F_DUPFD_CLOEXEC, top + 1);
        if (copies[i] < 0) {
            return -errno;
        }
    }
    for (int fd = 0; fd < 3 && r == 0; fd++) {
        r = posix_spawn_file_actions_addopen(actions, fd, "/dev/null",
                                             fd == 0 ? O_RDONLY : O_WRONLY, 0);
    }
    for (int fd = 3; fd <= top && r == 0; fd++) {
        r = posix_spawn_file_actions_addclose(actions, fd); /* one that is not open is fine */
    }
    for (size_t i = 0; i < params->fd_count && r == 0; i++) {
        r = posix_spawn_file_actions_adddup2(actions, copies[i], params->fds[i].as);
    }
    if (r == 0) {
        r = posix_spawn_file_actions_addclosefrom_np(actions, top + 1);
    }
    return -r;
}

int spawn_process(const struct spawn_params *params, pid_t *ret_pid, int *ret_pidfd)
{
    posix_spawn_file_actions_t actions;
    int copies[SPAWN_FDS_MAX];
    posix_spawnattr_t attr;
    sigset_t none, all;
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    pid_t pid = -1;
    int pidfd, r = FAULT_POINT("spawn");

    if (r < 0) {
        return r;
    }
    assert(params->fd_count <= SPAWN_FDS_MAX);
    for (size_t i = 0; i < SPAWN_FDS_MAX; i++) {
        copies[i] = -1;
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    if (params->new_session) {
        flags |= POSIX_SPAWN_SETSID;
    }
    posix_spawnattr_setflags(&attr, flags);
    r = add_fds(&actions, params, copies);
    if (r == 0) {
        r = -posix_spawnp(&pid, params->argv[0], &actions, &attr, (char *const *)params->argv,
                          (char *const *)(params->env ? params->env : path_only));
    }
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    for (size_t i = 0; i < SPAWN_FDS_MAX; i++) {
        close_p(&copies[i]);
    }
    if (r < 0) {
        return r;
    }
    /* The child is ours and not reaped, so the pid cannot have been reused. */
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        r = -errno;
        (void)kill(pid, SIGKILL);
        (void)spawn_reap(pid);
        return r;
    }
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}

int spawn_reap(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

char *spawn_find_program(const char *name)
{
    _cleanup_free_ char *path = x_strdup(getenv("PATH"));
    char *rest = path, *dir;

    while ((dir = strsep(&rest, ":"))) {
        _cleanup_free_ char *file = x_asprintf("%s/%s", dir, name);

        if (dir[0] == '/' && access(file, X_OK) == 0) {
            return STEAL_PTR(file);
        }
    }
    return NULL;
}
