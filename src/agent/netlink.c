#include "agent/netlink.h"

#include "base/attr.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

/* More than the kernel puts into one message of a dump: a page, or what one item needs. */
#define IN_MAX 16384

int netlink_open(struct netlink *n)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

    n->fd = fd;
    n->seq = 0;
    n->len = n->last = 0;
    return fd < 0 ? -errno : 0;
}

/* Zeroed, and padded as all of netlink is. */
static void *reserve(struct netlink *n, size_t len)
{
    uint8_t *p = n->out + n->len;

    assert(NLMSG_ALIGN(len) <= sizeof(n->out) - n->len);
    memset(p, 0, NLMSG_ALIGN(len));
    n->len += NLMSG_ALIGN(len);
    return p;
}

static void seal(struct netlink *n)
{
    ((struct nlmsghdr *)(void *)(n->out + n->last))->nlmsg_len = (uint32_t)(n->len - n->last);
}

void *netlink_begin(struct netlink *n, uint16_t type, uint16_t flags, size_t size)
{
    struct nlmsghdr *h;
    void *fixed;

    n->last = n->len;
    h = reserve(n, sizeof(*h));
    fixed = reserve(n, size);
    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    h->nlmsg_seq = ++n->seq;
    seal(n);
    return fixed;
}

void netlink_put(struct netlink *n, uint16_t type, const void *data, size_t len)
{
    struct rtattr *a = reserve(n, RTA_LENGTH(len));

    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(len);
    if (len > 0) {
        memcpy(RTA_DATA(a), data, len);
    }
    seal(n);
}

size_t netlink_nest(struct netlink *n, uint16_t type)
{
    size_t place = n->len;

    netlink_put(n, type | NLA_F_NESTED, NULL, 0);
    return place;
}

void netlink_unnest(struct netlink *n, size_t place)
{
    ((struct rtattr *)(void *)(n->out + place))->rta_len = (uint16_t)(n->len - place);
}

/* What the kernel answers to one run. */
struct answers {
    uint32_t first, last; /* sequence numbers of what was asked */
    bool ended;
    int result;
    netlink_fn fn;
    netlink_failed_fn failed;
    void *arg;
};

static void take(struct answers *a, const struct nlmsghdr *h)
{
    const struct nlmsgerr *e = NLMSG_DATA(h);

    if (h->nlmsg_seq - a->first > a->last - a->first) {
        return;
    }
    if (h->nlmsg_type == NLMSG_ERROR) {
        if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) && e->error < 0 && a->result == 0) {
            a->result = a->failed(a->arg, h->nlmsg_seq, e->error);
        }
        a->ended |= h->nlmsg_seq == a->last;
    } else if (h->nlmsg_type == NLMSG_DONE) {
        a->ended |= h->nlmsg_seq == a->last;
    } else if (h->nlmsg_type >= NLMSG_MIN_TYPE) {
        a->fn(a->arg, h);
    }
}

/* One datagram of answers. */
static int read_answers(struct netlink *n, struct answers *a)
{
    _Alignas(NLMSG_ALIGNTO) uint8_t in[IN_MAX];
    struct sockaddr_nl from = {0};
    socklen_t from_len = sizeof(from);
    ssize_t len = recvfrom(n->fd, in, sizeof(in), MSG_TRUNC, (struct sockaddr *)&from, &from_len);
    size_t left = len < 0 ? 0 : (size_t)len;

    if (len < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    if (left > sizeof(in)) {
        return -EMSGSIZE;
    }
    if (from.nl_pid != 0) { /* not the kernel */
        return 0;
    }
    for (size_t at = 0; left - at >= sizeof(struct nlmsghdr);) {
        const struct nlmsghdr *h = (const void *)(in + at);

        if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > left - at) {
            return -EPROTO;
        }
        take(a, h);
        if (NLMSG_ALIGN(h->nlmsg_len) >= left - at) {
            break;
        }
        at += NLMSG_ALIGN(h->nlmsg_len);
    }
    return 0;
}

int netlink_run(struct netlink *n, netlink_fn fn, netlink_failed_fn failed, void *arg)
{
    const struct nlmsghdr *begun = (const void *)n->out;
    struct answers a = {.fn = fn, .failed = failed, .arg = arg, .last = n->seq};
    ssize_t sent;
    int r = 0;

    assert(n->len > 0);
    a.first = begun->nlmsg_seq;
    sent = send(n->fd, n->out, n->len, 0);
    n->len = n->last = 0;
    if (sent < 0) {
        return -errno;
    }
    while (r == 0 && !a.ended) {
        r = read_answers(n, &a);
    }
    return r < 0 ? r : a.result;
}

const void *netlink_find_in(const void *attrs, size_t len, uint16_t type, size_t min_len,
                            size_t *ret_len)
{
    const uint8_t *p = attrs;

    while (len >= sizeof(struct rtattr)) {
        const struct rtattr *a = (const void *)p;
        size_t step;

        if (a->rta_len < sizeof(*a) || a->rta_len > len) {
            break;
        }
        if ((a->rta_type & NLA_TYPE_MASK) == type && RTA_PAYLOAD(a) >= min_len) {
            if (ret_len) {
                *ret_len = RTA_PAYLOAD(a);
            }
            return RTA_DATA(a);
        }
        step = RTA_ALIGN(a->rta_len);
        if (step >= len) {
            break;
        }
        p += step;
        len -= step;
    }
    return NULL;
}

const void *netlink_find(const struct nlmsghdr *message, size_t fixed, uint16_t type,
                         size_t min_len, size_t *ret_len)
{
    size_t begin = NLMSG_HDRLEN + NLMSG_ALIGN(fixed);

    if (message->nlmsg_len < begin) {
        return NULL;
    }
    return netlink_find_in((const uint8_t *)message + begin, message->nlmsg_len - begin, type,
                           min_len, ret_len);
}
