/* Whether the host's uplinks may have changed: what the kernel says of routes and interfaces
 * (rtnetlink(7)), without what our own TAPs make it say. */
#include "net/net_priv.h"

#include "base/attr.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_MAX 16384
#define TURNS 64 /* what is left then is for the next */

int nets_uplink_open(void)
{
    _cleanup_close_ int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct sockaddr_nl all = {.nl_family = AF_NETLINK,
                              .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};

    return fd < 0 || bind(fd, (struct sockaddr *)&all, sizeof(all)) < 0 ? -errno : STEAL_FD(fd);
}

static bool is_default_route(const struct nlmsghdr *h)
{
    const struct rtmsg *route = NLMSG_DATA(h);

    return h->nlmsg_len >= NLMSG_LENGTH(sizeof(*route)) && route->rtm_dst_len == 0;
}

static bool is_others_link(const struct nlmsghdr *h)
{
    const struct ifinfomsg *link = NLMSG_DATA(h);
    const struct rtattr *a = IFLA_RTA(link);
    int left = (int)h->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*link));

    for (; left > 0 && RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == IFLA_IFNAME) {
            return RTA_PAYLOAD(a) < sizeof(HOST_TAP_PREFIX) ||
                   strncmp(RTA_DATA(a), HOST_TAP_PREFIX, sizeof(HOST_TAP_PREFIX) - 1) != 0;
        }
    }
    return true;
}

static bool matters(const struct nlmsghdr *h)
{
    switch (h->nlmsg_type) {
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        return is_default_route(h);
    case RTM_NEWLINK:
    case RTM_DELLINK:
        return is_others_link(h);
    default:
        return false;
    }
}

bool nets_uplink_changed(int fd)
{
    union {
        char bytes[RECEIVE_MAX];
        struct nlmsghdr align;
    } buf;
    bool changed = false;

    for (int turn = 0; turn < TURNS; turn++) {
        ssize_t n = recv(fd, buf.bytes, sizeof(buf.bytes), 0);

        if (n < 0 && errno == EAGAIN) {
            break;
        }
        /* More was said than there was room for. */
        changed |= n < 0 && errno == ENOBUFS;
        for (const struct nlmsghdr *h = &buf.align; n > 0 && NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            changed |= matters(h);
        }
    }
    return changed;
}
