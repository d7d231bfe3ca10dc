#include "fakevmm/keeper.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

void keeper_init(struct keeper *k)
{
    *k = (struct keeper){.alive = -1};
}

static int write_text(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* A user namespace in which we are who we were: user_namespaces(7). Root without capabilities (a
 * daemon that has given them to its helper) may not be mapped, and is nobody in there; what it may
 * do to files is the same. */
static int unshare_as_user(void)
{
    bool root = geteuid() == 0;
    char uid_map[48], gid_map[48];
    int r;

    (void)snprintf(uid_map, sizeof(uid_map), "%u %u 1", geteuid(), geteuid());
    (void)snprintf(gid_map, sizeof(gid_map), "%u %u 1", getegid(), getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0) {
        return -errno;
    }
    if (root) {
        return 0;
    }
    r = write_text("/proc/self/setgroups", "deny");
    if (r == 0) {
        r = write_text("/proc/self/uid_map", uid_map);
    }
    return r < 0 ? r : write_text("/proc/self/gid_map", gid_map);
}

/* The kernel reaps whoever loses its parent: SIGCHLD is ignored, wait(2). */
static _noreturn_ void keep(int alive)
{
    sigset_t none;
    char byte;

    (void)signal(SIGCHLD, SIG_IGN);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)dup2(alive, 0);
    (void)syscall(SYS_close_range, 1, ~0U, 0);
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    _exit(0);
}

int keeper_start(struct keeper *k)
{
    _cleanup_close_ int read_fd = -1, write_fd = -1;
    int fds[2], r = 0;
    pid_t pid;

    if (k->pid > 0) {
        return 0;
    }
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    read_fd = fds[0];
    write_fd = fds[1];
    if (unshare(CLONE_NEWPID) < 0) {
        r = errno == EPERM ? unshare_as_user() : -errno;
    }
    if (r < 0) {
        return r;
    }
    pid = fork();
    if (pid == 0) {
        keep(read_fd);
    }
    if (pid < 0) {
        return -errno;
    }
    k->pid = pid;
    k->alive = STEAL_FD(write_fd);
    return 0;
}

void keeper_stop(struct keeper *k)
{
    if (k->alive >= 0) {
        close_p(&k->alive);
        (void)kill(k->pid, SIGKILL);
    }
}
