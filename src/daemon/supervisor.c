#include "daemon/supervisor.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define SOCKET_HINT                                                                                \
    "banger.socket passes one Unix stream socket, ListenStream= with the path of the daemon's socket"

/* What is wrong with a descriptor, or NULL. */
static const char *check_kind(int fd)
{
    int type, listening;
    socklen_t len = sizeof(type);
    struct sockaddr_storage address;
    socklen_t address_len = sizeof(address);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &address_len) < 0) {
        return "it is not a socket";
    }
    if (address.ss_family != AF_UNIX) {
        return "it is not a Unix socket";
    }
    if (type != SOCK_STREAM) {
        return "it is not a stream socket";
    }
    len = sizeof(listening);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening) {
        return "it does not listen";
    }
    return NULL;
}

static int check_path(int fd, const char *path, struct err *err)
{
    struct sockaddr_un address = {0};
    socklen_t len = sizeof(address);
    struct stat there, wanted;

    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0 || address.sun_path[0] != '/') {
        return err_set(err, ERR_INVALID, "the socket that was passed has no path");
    }
    /* By another name perhaps: /run is /var/run. */
    if (strcmp(address.sun_path, path) == 0 ||
        (stat(address.sun_path, &there) == 0 && stat(path, &wanted) == 0 &&
         there.st_dev == wanted.st_dev && there.st_ino == wanted.st_ino)) {
        return 0;
    }
    return err_set(err, ERR_INVALID,
                   "the socket that was passed is '%.107s', and clients look for '%s'",
                   address.sun_path, path);
}

int supervisor_take_socket(const char *path, int *ret_fd, struct err *err)
{
    int n = sd_listen_fds(1);
    int fd = SD_LISTEN_FDS_START, flags;
    const char *wrong;

    if (n == 0) {
        *ret_fd = -1;
        return 0;
    }
    if (n < 0) {
        err_set_errno(err, ERR_INVALID, n, "the passed sockets (LISTEN_FDS) cannot be taken");
        return err_hint(err, SOCKET_HINT);
    }
    if (n > 1) {
        err_set(err, ERR_INVALID, "%d sockets were passed (LISTEN_FDS), not one", n);
        return err_hint(err, SOCKET_HINT);
    }
    wrong = check_kind(fd);
    if (wrong) {
        err_set(err, ERR_INVALID, "descriptor %d was passed to listen on (LISTEN_FDS): %s", fd,
                wrong);
        return err_hint(err, SOCKET_HINT);
    }
    if (check_path(fd, path, err) < 0) {
        return err_hint(err, SOCKET_HINT);
    }
    flags = fcntl(fd, F_GETFL);
    /* Once more, so that whoever connects from now on sees us behind the socket. */
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || listen(fd, SOMAXCONN) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot set up the passed socket");
    }
    *ret_fd = fd;
    return 0;
}

void supervisor_ready(const char *version)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=bangerd %s serves clients", version);
}

void supervisor_stopping(const char *why)
{
    (void)sd_notifyf(0, "STOPPING=1\nSTATUS=Stopping: %s; VMs go on", why);
}

void supervisor_failed(const char *message)
{
    (void)sd_notifyf(0, "STATUS=%s", message);
}
