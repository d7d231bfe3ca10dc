/* One daemon per network namespace: it holds a name that only one socket of a namespace can have
 * (unix(7), abstract), and that the kernel gives back when the process ends. */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/str.h"
#include "host/net_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CMDLINE_MAX 8192
#define END_MS 10000

static const char lock_name[] = "\0banger-network";

static socklen_t lock_address(struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path, lock_name, sizeof(lock_name) - 1);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(lock_name) - 1);
}

/* Who listens there; false when it does not listen yet, or has gone. */
static bool find_holder(struct ucred *ret)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address;
    socklen_t len = lock_address(&address), size = sizeof(*ret);

    return fd >= 0 && connect(fd, (const struct sockaddr *)&address, len) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &size) == 0 && ret->pid > 0;
}

static int taken(struct err *err)
{
    struct ucred holder;

    if (find_holder(&holder)) {
        (void)err_set(err, ERR_CONFLICT,
                      "another daemon has the network of VMs: process %d of user %u", holder.pid,
                      holder.uid);
    } else {
        (void)err_set(err, ERR_CONFLICT, "another daemon has the network of VMs");
    }
    return err_hint(err, "one daemon of a machine (or container) has it: stop the other");
}

/* A helper has its daemon's runtime directory among its arguments (helper_main.c). */
static bool is_predecessor(pid_t pid, const char *runtime_dir)
{
    _cleanup_free_ char *path = x_asprintf("/proc/%d/cmdline", pid);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[CMDLINE_MAX];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = '\0';
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(text + at) + 1) {
        if (str_eq(text + at, runtime_dir)) {
            return true;
        }
    }
    return false;
}

/* That of the daemon before this one ends when it notices that it has none any more. False: it is
 * another daemon's, or does not end. */
static bool await_predecessor(const char *runtime_dir)
{
    _cleanup_close_ int pidfd = -1;
    struct ucred holder;

    if (!find_holder(&holder)) {
        return true; /* it has just gone */
    }
    pidfd = pidfd_open(holder.pid, 0);
    return (pidfd < 0 && errno == ESRCH) ||
           (pidfd >= 0 && is_predecessor(holder.pid, runtime_dir) &&
            cancel_wait_fd(NULL, pidfd, POLLIN, clock_mono_ms() + END_MS) == 0);
}

static int bind_name(int fd)
{
    struct sockaddr_un address;
    socklen_t len = lock_address(&address);

    return bind(fd, (const struct sockaddr *)&address, len) < 0 ? -errno : 0;
}

int net_lock(const char *runtime_dir, int *ret_fd, struct err *err)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = fd < 0 ? -errno : bind_name(fd);

    if (r == -EADDRINUSE && await_predecessor(runtime_dir)) {
        r = bind_name(fd);
    }
    if (r == -EADDRINUSE) {
        return taken(err);
    }
    /* So that others can ask who it is; nobody is ever accepted. */
    if (r < 0 || listen(fd, SOMAXCONN) < 0) {
        return err_set_errno(err, ERR_IO, r < 0 ? r : errno, "cannot say who has the network");
    }
    *ret_fd = STEAL_FD(fd);
    return 0;
}
