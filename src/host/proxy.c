/* struct host_ops, asked of the helper. Any number of threads at once: each request has a socket of
 * its own for the reply. */
#include "base/clock.h"
#include "base/str.h"
#include "base/test_point.h"
#include "host/host_priv.h"
#include "host/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* The helper does one thing after the other, and a start may take as long as local.c lets it. */
#define REPLY_DEADLINE_MS 60000

struct proxy {
    struct host host;
    int fd; /* immutable */
};

static int gone(struct err *err)
{
    (void)err_set(err, ERR_VMM, "the helper that has root is gone");
    return err_hint(err, "this daemon ends, too; the next command starts both anew");
}

static int send_request(int fd, const struct buf *request, const int *fds, size_t fd_count,
                        int64_t deadline_ms)
{
    for (;;) {
        int r = wire_send(fd, buf_head(request), request->len, fds, fd_count);

        if (r != -EAGAIN) {
            return r;
        }
        r = cancel_wait_fd(NULL, fd, POLLOUT, deadline_ms);
        if (r < 0) {
            return r;
        }
    }
}

static int receive_reply(int fd, struct wire_reply *ret, int *ret_fds, size_t *fd_count,
                         int64_t deadline_ms)
{
    int r = FAULT_POINT("host.reply") ?: cancel_wait_fd(NULL, fd, POLLIN, deadline_ms);
    ssize_t n = r < 0 ? r : wire_receive(fd, ret, sizeof(*ret), ret_fds, fd_count);

    return n == (ssize_t)sizeof(*ret) ? 0 : n < 0 ? (int)n : -EPIPE;
}

/* One request and its reply, with the descriptors of both. */
static int ask(struct proxy *p, const struct buf *request, const struct spawn_fd *fds,
               size_t fd_count, struct wire_reply *ret, int *ret_fds, size_t *ret_fd_count,
               struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + REPLY_DEADLINE_MS;
    _cleanup_close_ int mine = -1, theirs = -1;
    int ends[2], all[WIRE_FDS_MAX], r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot ask the helper");
    }
    mine = ends[0];
    theirs = ends[1];
    all[0] = theirs;
    for (size_t i = 0; i < fd_count; i++) {
        all[i + 1] = fds[i].fd;
    }
    r = send_request(p->fd, request, all, fd_count + 1, deadline_ms);
    close_p(&theirs); /* so that its end is seen when the helper ends */
    if (r == 0) {
        r = receive_reply(mine, ret, ret_fds, ret_fd_count, deadline_ms);
    }
    if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN) {
        return gone(err);
    }
    if (r < 0) {
        return err_set_errno(err, ERR_VMM, r, "the helper that has root does not answer");
    }
    if (ret->result < 0) {
        *err = ret->err;
        return -1;
    }
    return 0;
}

static int proxy_launch(struct host *host, const struct host_launch *params,
                        struct host_vmm *ret_vmm, struct err *err)
{
    struct proxy *p = (struct proxy *)host;
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};
    struct wire_reply reply;
    int fds[2] = {-1, -1};
    size_t count = ARRAY_LEN(fds);

    if (wire_put_launch(&request, params) < 0) {
        return err_set(err, ERR_INVALID, "the command line of the VMM is too long");
    }
    if (ask(p, &request, params->fds, params->fd_count, &reply, fds, &count, err) < 0) {
        return -1;
    }
    *ret_vmm = (struct host_vmm){.process = reply.process, .pidfd = fds[0], .exit_fd = fds[1]};
    return 0;
}

static int ask_for(struct host *host, enum wire_verb verb, const struct vmm_process *process,
                   const char *run_dir, uint64_t disk_bytes, struct wire_reply *ret,
                   struct err *err)
{
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};
    size_t none = 0;

    if (wire_put_vmm(&request, verb, process, run_dir, disk_bytes) < 0) {
        return err_set(err, ERR_INVALID, "the path of the run directory is too long");
    }
    return ask((struct proxy *)host, &request, NULL, 0, ret, NULL, &none, err);
}

static int proxy_kill(struct host *host, const struct vmm_process *process, const char *run_dir,
                      struct err *err)
{
    struct wire_reply reply;

    return ask_for(host, WIRE_KILL, process, run_dir, 0, &reply, err);
}

static int proxy_allow_disk(struct host *host, const struct vmm_process *process,
                            const char *run_dir, uint64_t disk_bytes, struct err *err)
{
    struct wire_reply reply;

    return ask_for(host, WIRE_ALLOW_DISK, process, run_dir, disk_bytes, &reply, err);
}

static int proxy_pss(struct host *host, const struct vmm_process *process, const char *run_dir,
                     uint64_t *ret_bytes, struct err *err)
{
    struct wire_reply reply;

    if (ask_for(host, WIRE_PSS, process, run_dir, 0, &reply, err) < 0) {
        return -1;
    }
    *ret_bytes = reply.pss_bytes;
    return 0;
}

/* With no descriptor, either way. */
static int ask_plain(struct host *host, const struct buf *request, struct wire_reply *ret,
                     struct err *err)
{
    size_t none = 0;

    return ask((struct proxy *)host, request, NULL, 0, ret, NULL, &none, err);
}

static int ask_verb(struct host *host, enum wire_verb verb, struct wire_reply *ret, struct err *err)
{
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};

    /* A head has room. */
    return wire_put_plain(&request, verb) < 0 ? err_set(err, ERR_INTERNAL, "no room")
                                              : ask_plain(host, &request, ret, err);
}

static int proxy_status(struct host *host, struct host_status *ret, struct err *err)
{
    struct wire_reply reply;

    if (ask_verb(host, WIRE_STATUS, &reply, err) < 0) {
        return -1;
    }
    *ret = reply.status;
    return 0;
}

/* Networks ------------------------------------------------------------------------------------- */

static int proxy_net_open(struct host *host, const struct host_subnet *subnet, unsigned *ret_mtu,
                          struct err *err)
{
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};
    struct wire_reply reply;

    if (wire_put_subnet(&request, subnet) < 0) {
        return err_set(err, ERR_INTERNAL, "no room");
    }
    if (ask_plain(host, &request, &reply, err) < 0) {
        return -1;
    }
    *ret_mtu = reply.mtu;
    return 0;
}

static int proxy_net_refresh(struct host *host, unsigned *ret_mtu, struct err *err)
{
    struct wire_reply reply;

    if (ask_verb(host, WIRE_NET_REFRESH, &reply, err) < 0) {
        return -1;
    }
    *ret_mtu = reply.mtu;
    return 0;
}

static int proxy_net_close(struct host *host, struct err *err)
{
    struct wire_reply reply;

    return ask_verb(host, WIRE_NET_CLOSE, &reply, err);
}

static int proxy_net_dns(struct host *host, int ret_fds[HOST_DNS_SOCKETS], struct err *err)
{
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};
    struct wire_reply reply;
    size_t count = HOST_DNS_SOCKETS;

    for (size_t i = 0; i < HOST_DNS_SOCKETS; i++) {
        ret_fds[i] = -1;
    }
    return wire_put_plain(&request, WIRE_NET_DNS) < 0
               ? err_set(err, ERR_INTERNAL, "no room")
               : ask((struct proxy *)host, &request, NULL, 0, &reply, ret_fds, &count, err);
}

static int proxy_tap_open(struct host *host, unsigned tap, int *ret_fd, struct err *err)
{
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};
    struct wire_reply reply;
    size_t count = 1;
    int fd = -1;

    if (wire_put_taps(&request, WIRE_TAP_OPEN, &tap, 1) < 0) {
        return err_set(err, ERR_INTERNAL, "no room");
    }
    if (ask((struct proxy *)host, &request, NULL, 0, &reply, &fd, &count, err) < 0) {
        return -1;
    }
    if (count != 1) {
        return err_set(err, ERR_INTERNAL, "the helper that has root sent no TAP");
    }
    *ret_fd = fd;
    return 0;
}

static int proxy_tap_delete(struct host *host, const unsigned *taps, size_t count, struct err *err)
{
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};
    struct wire_reply reply;

    if (wire_put_taps(&request, WIRE_TAP_DELETE, taps, count) < 0) {
        return err_set(err, ERR_INVALID, "%zu TAPs are too many at once", count);
    }
    return ask_plain(host, &request, &reply, err);
}

static int proxy_tap_list(struct host *host, unsigned **ret_taps, size_t *ret_count,
                          struct err *err)
{
    _cleanup_free_ unsigned *taps = x_calloc(HOST_TAPS_MAX, sizeof(*taps));
    struct wire_reply reply;
    size_t count = 0;

    if (ask_verb(host, WIRE_TAP_LIST, &reply, err) < 0) {
        return -1;
    }
    for (unsigned i = 0; i < HOST_TAPS_MAX; i++) {
        if (reply.taps[i / 8] & (1U << (i % 8))) {
            taps[count++] = i;
        }
    }
    *ret_taps = STEAL_PTR(taps);
    *ret_count = count;
    return 0;
}

static int ask_nic(struct host *host, enum wire_verb verb, const struct host_nic *nic,
                   struct err *err)
{
    _cleanup_buf_ struct buf request = {.max = WIRE_REQUEST_MAX};
    struct wire_reply reply;

    return wire_put_nic(&request, verb, nic) < 0 ? err_set(err, ERR_INTERNAL, "no room")
                                                 : ask_plain(host, &request, &reply, err);
}

static int proxy_nic_attach(struct host *host, const struct host_nic *nic, struct err *err)
{
    return ask_nic(host, WIRE_NIC_ATTACH, nic, err);
}

static int proxy_nic_detach(struct host *host, const struct host_nic *nic, struct err *err)
{
    return ask_nic(host, WIRE_NIC_DETACH, nic, err);
}

static int proxy_watch_fd(struct host *host)
{
    return ((struct proxy *)host)->fd;
}

static void proxy_free(struct host *host)
{
    struct proxy *p = (struct proxy *)host;

    close_p(&p->fd);
    free(p);
}

static const struct host_ops proxy_ops = {
    .mode = "root helper",
    .gives_kvm = true,
    .launch = proxy_launch,
    .kill = proxy_kill,
    .allow_disk = proxy_allow_disk,
    .pss = proxy_pss,
    .status = proxy_status,
    .net_open = proxy_net_open,
    .net_refresh = proxy_net_refresh,
    .net_close = proxy_net_close,
    .net_dns = proxy_net_dns,
    .tap_open = proxy_tap_open,
    .tap_delete = proxy_tap_delete,
    .tap_list = proxy_tap_list,
    .nic_attach = proxy_nic_attach,
    .nic_detach = proxy_nic_detach,
    .watch_fd = proxy_watch_fd,
    .free = proxy_free,
};

struct host *host_proxy_new(int fd)
{
    struct proxy *p = x_calloc(1, sizeof(*p));

    p->host.ops = &proxy_ops;
    p->fd = fd;
    return &p->host;
}
