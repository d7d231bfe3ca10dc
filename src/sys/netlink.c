#include "sys/netlink.h"

#include "base/buf.h"
#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

/* The kernel answers within its own sendmsg: this ends only a wait that is our mistake. */
#define ANSWER_SECONDS 10
#define RECEIVE_BYTES 65536U
#define TEXT_SIZE 160
/* Of a whole dump: 16,384 links are 20 MiB. */
#define DUMP_MAX (128U * 1024 * 1024)
#define DUMP_TRIES 5

struct request {
    uint32_t seq;
    enum netlink_forgive forgive;
    bool acked; /* an answer comes in any case */
};

struct netlink {
    struct mnl_socket *socket;
    uint32_t seq; /* of the last request */
    uint8_t *out; /* NETLINK_BATCH_MAX * NETLINK_REQUEST_MAX; what waits */
    size_t out_len;
    struct nlmsghdr *last; /* its length is not in out_len yet, as it may still grow */
    struct request waiting[NETLINK_BATCH_MAX];
    size_t count;
    uint8_t *in; /* RECEIVE_BYTES */
    char text[TEXT_SIZE];
};

void netlink_free(struct netlink *n)
{
    if (n) {
        if (n->socket) {
            (void)mnl_socket_close(n->socket);
        }
        free(n->out);
        free(n->in);
        free(n);
    }
}

/* Where a kernel does not know an option it does without. */
static int set_up(struct netlink *n)
{
    const struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int fd = mnl_socket_get_fd(n->socket), on = 1;

    (void)mnl_socket_setsockopt(n->socket, NETLINK_EXT_ACK, &on, sizeof(on));
    (void)mnl_socket_setsockopt(n->socket, NETLINK_CAP_ACK, &on, sizeof(on));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        mnl_socket_bind(n->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
        connect(fd, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
        return -errno;
    }
    return 0;
}

int netlink_open(int bus, struct netlink **ret)
{
    _cleanup_(netlink_free_p) struct netlink *n = x_calloc(1, sizeof(*n));
    int r;

    n->socket = mnl_socket_open2(bus, SOCK_CLOEXEC);
    if (!n->socket) {
        return -errno;
    }
    r = set_up(n);
    if (r < 0) {
        return r;
    }
    n->out = x_calloc(NETLINK_BATCH_MAX, NETLINK_REQUEST_MAX);
    n->in = x_calloc(1, RECEIVE_BYTES);
    *ret = STEAL_PTR(n);
    return 0;
}

const char *netlink_text(const struct netlink *n)
{
    return n->text;
}

/* Requests ------------------------------------------------------------------------------------- */

static void close_last(struct netlink *n)
{
    if (n->last) {
        assert(n->last->nlmsg_len <= NETLINK_REQUEST_MAX);
        n->out_len += MNL_ALIGN(n->last->nlmsg_len);
        n->last = NULL;
    }
}

struct nlmsghdr *netlink_request(struct netlink *n, uint16_t type, uint16_t flags,
                                 enum netlink_forgive forgive)
{
    struct nlmsghdr *m;

    close_last(n);
    assert(n->count < NETLINK_BATCH_MAX);
    m = mnl_nlmsg_put_header(n->out + n->out_len);
    m->nlmsg_type = type;
    m->nlmsg_flags = NLM_F_REQUEST | flags;
    m->nlmsg_seq = ++n->seq;
    n->waiting[n->count++] =
        (struct request){.seq = n->seq, .forgive = forgive, .acked = (flags & NLM_F_ACK) != 0};
    n->last = m;
    return m;
}

size_t netlink_room(const struct netlink *n)
{
    return NETLINK_BATCH_MAX - n->count;
}

void netlink_forget(struct netlink *n)
{
    n->last = NULL;
    n->out_len = n->count = 0;
}

static bool is_forgiven(enum netlink_forgive forgive, int error)
{
    switch (error) {
    case -ENOENT:
    case -ESRCH:
    case -ENODEV:
    case -EADDRNOTAVAIL:
        return forgive & NETLINK_MAY_BE_GONE;
    case -EEXIST:
        return forgive & NETLINK_MAY_BE_THERE;
    default:
        return false;
    }
}

/* What comes after the error number: attributes, and before them the request again unless the
 * kernel has left that out. */
static void note_text(struct netlink *n, const struct nlmsghdr *m)
{
    const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);
    size_t skip = sizeof(*e);
    const struct nlattr *attr;

    n->text[0] = '\0';
    if (!(m->nlmsg_flags & NLM_F_ACK_TLVS)) {
        return;
    }
    if (!(m->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len > sizeof(e->msg)) {
        skip += MNL_ALIGN(e->msg.nlmsg_len - sizeof(e->msg));
    }
    if (skip > mnl_nlmsg_get_payload_len(m)) {
        return;
    }
    netlink_each (attr, m, skip) {
        if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
            mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0) {
            (void)snprintf(n->text, sizeof(n->text), "%s", mnl_attr_get_str(attr));
        }
    }
}

/* Which answers are still to come, and what those that came say. */
struct answers {
    size_t left;
    bool refused; /* what is asked as a whole is, so that no more need come */
    int error;
};

static void take_answer(struct netlink *n, const struct nlmsghdr *m, struct answers *a)
{
    const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);

    if (m->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(m) < sizeof(*e)) {
        return;
    }
    for (size_t i = 0; i < n->count; i++) {
        struct request *q = &n->waiting[i];

        if (q->seq != m->nlmsg_seq) {
            continue;
        }
        if (q->acked) {
            q->acked = false;
            a->left--;
        } else if (e->error < 0) {
            a->refused = true;
        }
        if (e->error < 0 && !is_forgiven(q->forgive, e->error) && a->error == 0) {
            a->error = e->error;
            note_text(n, m);
        }
        return;
    }
}

/* One packet; what comes of earlier requests is passed over. */
static int receive_answers(struct netlink *n, int flags, struct answers *a)
{
    ssize_t size = recv(mnl_socket_get_fd(n->socket), n->in, RECEIVE_BYTES, flags);
    const struct nlmsghdr *m = (const struct nlmsghdr *)n->in;
    int left = (int)size;

    if (size < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    for (; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
        take_answer(n, m, a);
    }
    return 0;
}

static int send_waiting(struct netlink *n)
{
    close_last(n);
    n->text[0] = '\0';
    return send(mnl_socket_get_fd(n->socket), n->out, n->out_len, 0) < 0 ? -errno : 0;
}

int netlink_run(struct netlink *n)
{
    struct answers a = {0};
    int r = n->count > 0 ? send_waiting(n) : 0;

    for (size_t i = 0; i < n->count; i++) {
        a.left += n->waiting[i].acked;
    }
    while (r == 0 && a.left > 0 && !a.refused) {
        r = receive_answers(n, 0, &a);
    }
    /* Of a refused whole more may have come. */
    for (int more = r; more == 0 && a.refused;) {
        more = receive_answers(n, MSG_DONTWAIT, &a);
    }
    netlink_forget(n);
    return r == -EAGAIN ? -ETIMEDOUT : r < 0 ? r : a.error;
}

/* Dumps ---------------------------------------------------------------------------------------- */

/* Keeps the messages of one packet. 1 = there is more, 0 = that was the last, or -errno. */
static int keep_messages(struct netlink *n, bool dump, size_t size, struct buf *ret_all,
                         bool *ret_torn)
{
    const struct nlmsghdr *m = (const struct nlmsghdr *)n->in;
    int left = (int)size;

    for (; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
        static const uint8_t padding[MNL_ALIGNTO];
        size_t len = m->nlmsg_len;

        if (m->nlmsg_seq != n->seq) {
            continue;
        }
        *ret_torn |= (m->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
        if (m->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);

            if (mnl_nlmsg_get_payload_len(m) < sizeof(*e)) {
                return -EPROTO;
            }
            note_text(n, m);
            return e->error;
        }
        if (m->nlmsg_type == NLMSG_DONE) {
            return 0;
        }
        if (buf_append(ret_all, m, len) < 0 ||
            buf_append(ret_all, padding, MNL_ALIGN(len) - len) < 0) {
            return -EMSGSIZE;
        }
        if (!dump) {
            return 0;
        }
    }
    return 1;
}

static int receive_all(struct netlink *n, bool dump, struct buf *ret_all, bool *ret_torn)
{
    int r = 1;

    while (r > 0) {
        ssize_t size = recv(mnl_socket_get_fd(n->socket), n->in, RECEIVE_BYTES, MSG_TRUNC);

        if (size < 0) {
            r = errno == EINTR ? 1 : errno == EAGAIN ? -ETIMEDOUT : -errno;
        } else if (size > (ssize_t)RECEIVE_BYTES) {
            r = -EMSGSIZE;
        } else {
            r = keep_messages(n, dump, (size_t)size, ret_all, ret_torn);
        }
    }
    return r;
}

static int call_with_each(const struct buf *all, netlink_fn fn, void *arg)
{
    const struct nlmsghdr *m = (const struct nlmsghdr *)buf_head(all);
    int left = (int)all->len, r = 0;

    for (; r >= 0 && left > 0 && mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
        r = fn(m, arg);
    }
    return r < 0 ? r : 0;
}

int netlink_ask(struct netlink *n, netlink_fn fn, void *arg)
{
    struct nlmsghdr *request = (struct nlmsghdr *)n->out;
    bool dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    _cleanup_buf_ struct buf all = {.max = DUMP_MAX};
    bool torn = true;
    int r = 0;

    assert(n->count == 1);
    for (int i = 0; i < DUMP_TRIES && torn && r == 0; i++) {
        torn = false;
        buf_consume(&all, all.len);
        request->nlmsg_seq = ++n->seq;
        r = send_waiting(n);
        if (r == 0) {
            r = receive_all(n, dump, &all, &torn);
        }
    }
    netlink_forget(n);
    return r < 0 ? r : torn ? -EBUSY : call_with_each(&all, fn, arg);
}
