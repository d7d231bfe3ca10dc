/* One daemon per network namespace: it holds a name that only one socket of a namespace can have
 * (unix(7), abstract), and that the kernel gives back when the process ends. */
#include "base/str.h"
#include "host/net_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

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

int net_lock(int *ret_fd, struct err *err)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address;
    socklen_t len = lock_address(&address);

    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, len) < 0) {
        return fd >= 0 && errno == EADDRINUSE
                   ? taken(err)
                   : err_set_errno(err, ERR_IO, errno, "cannot say that the network is taken");
    }
    /* So that others can ask who it is; nobody is ever accepted. */
    if (listen(fd, SOMAXCONN) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot say who has the network");
    }
    *ret_fd = STEAL_FD(fd);
    return 0;
}
