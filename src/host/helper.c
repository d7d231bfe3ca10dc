#include "host/helper.h"

#include "base/log.h"
#include "base/str.h"
#include "host/host_priv.h"
#include "host/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define VMMS_MAX 16384U

/* A VMM that runs: who waits for its end. */
struct child {
    pid_t pid;
    int exit_fd; /* a pipe */
};

struct helper {
    const struct helper_params *params;
    int signal_fd;
    struct child *children;
    size_t count, room;
    bool net_is_open;
    struct host_subnet subnet; /* of which guests' addresses must be */
};

static void helper_done(struct helper *h)
{
    for (size_t i = 0; i < h->count; i++) {
        close_p(&h->children[i].exit_fd);
    }
    free(h->children);
    close_p(&h->signal_fd);
}

/* Ends ----------------------------------------------------------------------------------------- */

static void add_child(struct helper *h, pid_t pid, int exit_fd)
{
    if (h->count == h->room) {
        h->room = h->room ? h->room * 2 : 16;
        h->children = reallocarray(h->children, h->room, sizeof(*h->children));
        if (!h->children) {
            abort();
        }
    }
    h->children[h->count++] = (struct child){.pid = pid, .exit_fd = exit_fd};
}

static void tell_exit(struct helper *h, pid_t pid, const struct wire_exit *exit)
{
    for (size_t i = 0; i < h->count; i++) {
        if (h->children[i].pid == pid) {
            /* Nobody may be listening any more, or the pipe be somebody's joke. */
            (void)!write(h->children[i].exit_fd, exit, sizeof(*exit));
            close_p(&h->children[i].exit_fd);
            h->children[i] = h->children[--h->count];
            return;
        }
    }
}

static void collect_exits(struct helper *h)
{
    struct signalfd_siginfo info;

    while (read(h->signal_fd, &info, sizeof(info)) > 0) {
    }
    for (;;) {
        siginfo_t ended = {0};
        struct wire_exit exit = {.code = -1};

        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG) < 0 || ended.si_pid == 0) {
            return;
        }
        if (ended.si_code == CLD_EXITED) {
            exit.code = ended.si_status;
        } else {
            exit.signal = ended.si_status;
        }
        tell_exit(h, ended.si_pid, &exit);
    }
}

/* Verbs ---------------------------------------------------------------------------------------- */

/* What came with a request; all closed in the end. */
struct received {
    int fds[WIRE_FDS_MAX];
    size_t count;
};

static void received_done(struct received *r)
{
    for (size_t i = 0; i < r->count; i++) {
        close_p(&r->fds[i]);
    }
}

/* Whether it was taken. */
static bool answer(int fd, const struct wire_reply *reply, const int *fds, size_t count)
{
    int r = wire_send(fd, reply, sizeof(*reply), fds, count);

    if (r < 0) {
        log_warn("a reply is not wanted any more: %s", strerror(-r));
    }
    return r == 0;
}

static void do_launch(struct helper *h, const struct wire_request *q, int reply_fd)
{
    struct wire_reply reply = {0};
    struct host_vmm vmm = {.pidfd = -1, .exit_fd = -1};
    int ends[2];

    if (h->count >= VMMS_MAX || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        reply.result = err_set_errno(&reply.err, ERR_LIMIT, h->count >= VMMS_MAX ? EAGAIN : errno,
                                     "%zu VMs run", h->count);
        (void)answer(reply_fd, &reply, NULL, 0);
        return;
    }
    reply.result = host_launch(h->params->host, &q->launch, &vmm, &reply.err);
    if (reply.result == 0) {
        const int fds[] = {vmm.pidfd, ends[0]};

        reply.process = vmm.process;
        add_child(h, vmm.process.pid, ends[1]);
        if (!answer(reply_fd, &reply, fds, ARRAY_LEN(fds))) {
            /* Nobody will ever know of it. */
            (void)pidfd_send_signal(vmm.pidfd, SIGKILL, NULL, 0);
        }
        (void)close(vmm.pidfd);
    } else {
        (void)answer(reply_fd, &reply, NULL, 0);
        (void)close(ends[1]);
    }
    (void)close(ends[0]);
}

static void do_tap_open(struct helper *h, const struct wire_request *q, int reply_fd)
{
    struct wire_reply r = {0};
    _cleanup_close_ int fd = -1;

    r.result = host_tap_open(h->params->host, q->taps[0], &fd, &r.err);
    (void)answer(reply_fd, &r, &fd, r.result == 0);
}

static void do_net_dns(struct helper *h, int reply_fd)
{
    struct wire_reply r = {0};
    int fds[HOST_DNS_SOCKETS];
    size_t count = 0;

    r.result = host_net_dns(h->params->host, fds, &r.err);
    while (r.result == 0 && count < HOST_DNS_SOCKETS && fds[count] >= 0) {
        count++;
    }
    (void)answer(reply_fd, &r, fds, count);
    for (size_t i = 0; i < count; i++) {
        (void)close(fds[i]);
    }
}

static int list_taps(struct host *host, struct wire_reply *r)
{
    _cleanup_free_ unsigned *taps = NULL;
    size_t count;

    if (host_tap_list(host, &taps, &count, &r->err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        r->taps[taps[i] / 8] |= (uint8_t)(1U << (taps[i] % 8));
    }
    return 0;
}

static int open_net(struct helper *h, const struct wire_request *q, struct wire_reply *r)
{
    h->net_is_open = host_net_open(h->params->host, &q->subnet, &r->mtu, &r->err) == 0;
    h->subnet = q->subnet;
    return h->net_is_open ? 0 : -1;
}

/* All that is neither LAUNCH nor TAP_OPEN. */
static int do_verb(struct helper *h, const struct wire_request *q, struct wire_reply *r)
{
    struct host *host = h->params->host;

    switch (q->verb) {
    case WIRE_KILL:
        return host_kill(host, &q->process, q->run_dir, &r->err);
    case WIRE_ALLOW_DISK:
        return host_allow_disk(host, &q->process, q->run_dir, q->disk_bytes, &r->err);
    case WIRE_PSS:
        return host_pss(host, &q->process, q->run_dir, &r->pss_bytes, &r->err);
    case WIRE_NET_OPEN:
        return open_net(h, q, r);
    case WIRE_NET_REFRESH:
        return host_net_refresh(host, &r->mtu, &r->err);
    case WIRE_NET_CLOSE:
        h->net_is_open = false;
        return host_net_close(host, &r->err);
    case WIRE_TAP_DELETE:
        return host_tap_delete(host, q->taps, q->tap_count, &r->err);
    case WIRE_TAP_LIST:
        return list_taps(host, r);
    case WIRE_NIC_ATTACH:
        return host_nic_attach(host, &q->nic, &r->err);
    case WIRE_NIC_DETACH:
        return host_nic_detach(host, &q->nic, &r->err);
    default:
        return 0; /* STATUS is in every reply */
    }
}

static void do_other(struct helper *h, const struct wire_request *q, int reply_fd)
{
    struct wire_reply r = {.status = h->params->status};

    r.status.vmms = (uint32_t)h->count;
    r.result = do_verb(h, q, &r);
    (void)answer(reply_fd, &r, NULL, 0);
}

/* What is wrong with a request about networks, or NULL. While none is open the answer to one about
 * a guest is an error like others: it may have crossed with a close. */
static const char *check_net(const struct helper *h, const struct wire_request *q)
{
    for (size_t i = 0; i < q->tap_count; i++) {
        if (host_check_tap(q->taps[i])) {
            return host_check_tap(q->taps[i]);
        }
    }
    if (q->verb == WIRE_NET_OPEN) {
        return host_check_subnet(&q->subnet);
    }
    if (q->verb == WIRE_NIC_ATTACH || q->verb == WIRE_NIC_DETACH) {
        return h->net_is_open ? host_check_nic(&q->nic, &h->subnet) : host_check_tap(q->nic.tap);
    }
    return NULL;
}

/* What is wrong with a request, or NULL. */
static const char *check(const struct helper *h, const struct wire_request *q,
                         const struct received *got)
{
    const char *runtime_dir = h->params->runtime_dir;

    /* launch is empty but for LAUNCH. */
    if (got->count - 1 != q->launch.fd_count) {
        return "the number of descriptors";
    }
    if (q->verb == WIRE_LAUNCH) {
        return host_check_launch(&q->launch, runtime_dir);
    }
    return q->run_dir ? host_check_vmm(&q->process, q->run_dir, q->disk_bytes, runtime_dir)
                      : check_net(h, q);
}

static void serve_request(struct helper *h, struct wire_request *q, const struct received *got)
{
    for (size_t i = 0; i < q->launch.fd_count; i++) {
        q->fds[i].fd = got->fds[i + 1];
    }
    if (q->verb == WIRE_LAUNCH) {
        do_launch(h, q, got->fds[0]);
    } else if (q->verb == WIRE_TAP_OPEN) {
        do_tap_open(h, q, got->fds[0]);
    } else if (q->verb == WIRE_NET_DNS) {
        do_net_dns(h, got->fds[0]);
    } else {
        do_other(h, q, got->fds[0]);
    }
}

/* 1 = served, 0 = the daemon has ended, or -1. */
static int serve_one(struct helper *h, struct err *err)
{
    _cleanup_(received_done) struct received got = {.count = WIRE_FDS_MAX};
    _cleanup_free_ uint8_t *packet = x_calloc(1, WIRE_REQUEST_MAX);
    struct wire_request q;
    const char *wrong;
    ssize_t n = wire_receive(h->params->fd, packet, WIRE_REQUEST_MAX, got.fds, &got.count);

    if (n <= 0) {
        got.count = 0;
    }
    if (n == -EAGAIN) {
        return 1;
    }
    if (n == 0 || n == -ECONNRESET) {
        return 0;
    }
    if (n < 0 && n != -EPROTO) {
        return err_set_errno(err, ERR_IO, (int)n, "cannot read a request");
    }
    if (n < 0 || got.count < 1 || wire_parse(packet, (size_t)n, &q) < 0) {
        return err_set(err, ERR_INVALID, "what the daemon sent is no request");
    }
    wrong = check(h, &q, &got);
    if (wrong) {
        return err_set(err, ERR_DENIED, "the daemon may not ask for this: %s", wrong);
    }
    serve_request(h, &q, &got);
    return 1;
}

static int loop(struct helper *h, struct err *err)
{
    struct pollfd fds[] = {
        {.fd = h->params->fd, .events = POLLIN},
        {.fd = h->signal_fd, .events = POLLIN},
    };
    int r = 1;

    while (r > 0) {
        if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR) {
            return err_set_errno(err, ERR_INTERNAL, errno, "poll");
        }
        if (fds[1].revents) {
            collect_exits(h);
        }
        if (fds[0].revents) {
            r = serve_one(h, err);
        }
    }
    return r;
}

int helper_serve(const struct helper_params *params, struct err *err)
{
    _cleanup_(helper_done) struct helper h = {.params = params, .signal_fd = -1};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    h.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (h.signal_fd < 0) {
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot wait for children");
    }
    return loop(&h, err);
}
