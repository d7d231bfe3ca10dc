#include "cli/relay.h"

#include "base/str.h"
#include "cli/output.h"
#include "cli/remote.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX ((size_t)64 * 1024)

struct relay {
    int fd;
    bool here_ended;  /* nothing more comes from fd */
    bool there_ended; /* and nothing more goes there */
    bool broken;      /* what comes of it is not told: who connected here has left */
    bool quiet;
    struct buf to_guest, from_guest;
    struct remote remote;
};

static void read_here(struct relay *r)
{
    ssize_t n = buf_read_fd(&r->to_guest, r->fd, READ_MAX);

    r->here_ended = n == 0;
    r->broken = n < 0 && n != -EAGAIN;
}

static void write_here(struct relay *r)
{
    ssize_t n = 1;

    while (n > 0 && r->from_guest.len > 0) {
        n = buf_write_fd(&r->from_guest, r->fd);
    }
    r->broken |= n < 0 && n != -EAGAIN;
}

/* The agent closes its stderr once it is connected to the service; without a connection, the end of
 * its stdout is no orderly end. */
static bool connected(const struct relay *r)
{
    return r->remote.err_ended && r->remote.err_received == 0;
}

/* What can be done without waiting. */
static void move_on(struct relay *r)
{
    remote_send(&r->remote, &r->to_guest, r->here_ended);
    remote_grant(&r->remote, &r->from_guest, r->quiet);
    if (r->remote.ended && connected(r) && r->from_guest.len == 0 && !r->there_ended) {
        r->there_ended = true;
        (void)shutdown(r->fd, SHUT_WR);
    }
}

/* One wait. 0, or -1 with an error of the connection to the guest. */
static int turn(struct relay *r, struct err *err)
{
    enum { HERE, GUEST, COUNT };
    bool reads = !r->here_ended && r->to_guest.len < READ_MAX;
    struct pollfd p[COUNT] = {
        [HERE] = {r->here_ended && r->there_ended ? -1 : r->fd,
                  (short)((reads ? POLLIN : 0) | (r->from_guest.len > 0 ? POLLOUT : 0)), 0},
        [GUEST] = {r->remote.exited ? -1 : r->remote.fd, remote_events(&r->remote), 0},
    };
    int n = poll(p, COUNT, remote_owes(&r->remote) ? FRAME_ACK_QUIET_MS : -1);

    r->quiet = n == 0;
    if (n < 0) {
        return errno == EINTR ? 0 : err_set_errno(err, ERR_IO, -errno, "poll");
    }
    if (p[GUEST].revents && remote_serve(&r->remote, p[GUEST].revents, &r->from_guest, err) < 0) {
        return -1;
    }
    if (reads && (p[HERE].revents & (POLLIN | POLLHUP))) {
        read_here(r);
    }
    if (!r->broken && (p[HERE].revents & POLLOUT)) {
        write_here(r);
    }
    r->broken |= (p[HERE].revents & (POLLERR | POLLNVAL)) != 0;
    return 0;
}

static int carry(struct relay *r, struct err *err)
{
    /* Frames that came with the reply do not make the socket readable. */
    if (remote_serve(&r->remote, 0, &r->from_guest, err) < 0 && !r->remote.exited) {
        return -1;
    }
    while (!r->broken && !(r->remote.exited && r->from_guest.len == 0)) {
        move_on(r);
        if (turn(r, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static json_t *connect_params(const struct forward_target *target)
{
    json_t *params = json_object();

    if (target->path[0]) {
        json_put_str(params, "path", target->path);
    } else {
        json_put_str(params, "host", target->host);
        json_put_int(params, "port", target->port);
    }
    return params;
}

/* Whoever is connected learns that this was no orderly end. */
static void reset_on_close(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

void relay_run(struct cli *cli, const char *vm, const struct forward_target *target, int fd)
{
    struct relay r = {.fd = fd, .remote = {.fd = -1}};
    struct err err;
    int no_signal;

    buf_init(&r.to_guest, 2 * READ_MAX);
    buf_init(&r.from_guest, 2 * REMOTE_WINDOW);
    if (remote_open(&r.remote, cli, vm, "session.connect", connect_params(target), -1, &no_signal,
                    &err) < 0 ||
        carry(&r, &err) < 0) {
        (void)out_error(cli, r.remote.client, vm, &err);
        reset_on_close(fd);
    } else if (r.broken || r.remote.signal != 0) {
        reset_on_close(fd);
    } else if (r.remote.status != 0) {
        messages_print(&r.remote.messages, cli, vm);
        reset_on_close(fd);
    }
    remote_close(&r.remote);
    (void)close(fd);
    buf_done(&r.to_guest);
    buf_done(&r.from_guest);
}
