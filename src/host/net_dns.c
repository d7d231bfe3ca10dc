/* Sockets for the daemon's nameserver: the port is one that only root may have. */
#include "base/str.h"
#include "host/host_priv.h"
#include "host/net_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG 128

static int bind_at(const struct rtnl_prefix *at, int type)
{
    _cleanup_close_ int fd = socket(at->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(NET_DNS_PORT)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(NET_DNS_PORT)};
    bool is_six = at->family == AF_INET6;
    const struct sockaddr *sa = is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    int one = 1;

    memcpy(&four.sin_addr, at->bytes, sizeof(four.sin_addr));
    memcpy(&six.sin6_addr, at->bytes, sizeof(six.sin6_addr));
    /* Of TCP: connections of an earlier daemon may still be in TIME_WAIT. */
    if (fd < 0 ||
        (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0) ||
        (is_six && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
        bind(fd, sa, is_six ? sizeof(six) : sizeof(four)) < 0 ||
        (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)) {
        return -errno;
    }
    return STEAL_FD(fd);
}

static int bind_all(struct net *n, int ret_fds[HOST_DNS_SOCKETS], struct err *err)
{
    const struct rtnl_prefix at[] = {net_gateway4(&n->subnet), net_gateway6(&n->subnet)};
    size_t count = n->ipv6 ? HOST_DNS_SOCKETS : HOST_DNS_SOCKETS / 2;

    for (size_t i = 0; i < HOST_DNS_SOCKETS; i++) {
        ret_fds[i] = -1;
    }
    for (size_t i = 0; i < count; i++) {
        ret_fds[i] = bind_at(&at[i / 2], i % 2 == 0 ? SOCK_DGRAM : SOCK_STREAM);
        if (ret_fds[i] < 0) {
            int r = ret_fds[i];

            for (size_t k = 0; k < HOST_DNS_SOCKETS; k++) {
                close_p(&ret_fds[k]);
            }
            (void)err_set_errno(err, r == -EADDRINUSE ? ERR_CONFLICT : ERR_IO, r,
                                "cannot listen for DNS at the VMs' gateway");
            return err_hint(err,
                            "a nameserver that takes all addresses has the port: tell it not to");
        }
    }
    return 0;
}

int net_dns(struct net *n, int ret_fds[HOST_DNS_SOCKETS], struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = net_need_open(n, err);
    if (r == 0) {
        r = bind_all(n, ret_fds, err);
    }
    pthread_mutex_unlock(&n->mutex);
    return r;
}
