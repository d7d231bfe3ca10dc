/* The two sockets of a listener: datagrams, and connections that come. */
#include "dns/dns_priv.h"

#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Each wake-up's. */
#define DATAGRAMS_AT_ONCE 64
#define ACCEPTS_AT_ONCE 16
#define ACCEPT_PAUSE_MS 100
#define BACKLOG 128
/* A burst of all guests waits here rather than being lost; the kernel caps it (rmem_max). */
#define RECEIVE_BYTES (1024 * 1024)
/* Port 0: the free port of UDP may not be free on TCP. */
#define PORT_TRIES 16

union control {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
};

/* ---- UDP ---- */

static void read_local(struct msghdr *msg, struct dns_local *ret)
{
    *ret = (struct dns_local){0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof(info));
            ret->ipv4 = info.ipi_spec_dst;
            ret->is_known = true;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof(info));
            ret->ipv6 = info.ipi6_addr;
            ret->ifindex = IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr) ? info.ipi6_ifindex : 0;
            ret->is_known = true;
        }
    }
}

/* The other way round: the reply goes out from there. */
static void write_local(struct msghdr *msg, const struct dns_local *local, bool is_v4)
{
    struct in_pktinfo v4 = {.ipi_spec_dst = local->ipv4};
    struct in6_pktinfo v6 = {.ipi6_addr = local->ipv6, .ipi6_ifindex = local->ifindex};
    size_t len = is_v4 ? sizeof(v4) : sizeof(v6);
    struct cmsghdr *c;

    msg->msg_controllen = CMSG_SPACE(len);
    c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = is_v4 ? IPPROTO_IP : IPPROTO_IPV6;
    c->cmsg_type = is_v4 ? IP_PKTINFO : IPV6_PKTINFO;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), is_v4 ? (void *)&v4 : (void *)&v6, len);
}

void dns_listener_send(struct dns_listener *l, const struct dns_asker *asker, const uint8_t *data,
                       size_t len)
{
    union dns_endpoint to = asker->from;
    union control control = {0};
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr msg = {
        .msg_name = &to,
        .msg_namelen = dns_endpoint_len(&to),
        .msg_iov = &iov,
        .msg_iovlen = 1,
    };

    if (asker->local.is_known) {
        msg.msg_control = control.bytes;
        write_local(&msg, &asker->local, to.sa.sa_family == AF_INET);
    }
    /* A reply that cannot be sent now is lost, as any datagram may be: the client asks again. */
    (void)sendmsg(l->udp_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* One datagram. False: there is none. */
static bool receive(struct dns_listener *l)
{
    struct dns *d = l->dns;
    struct dns_asker asker = {.listener = l};
    uint8_t data[QUERY_BYTES_MAX];
    union control control;
    struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
    struct msghdr msg = {
        .msg_name = &asker.from,
        .msg_namelen = sizeof(asker.from),
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n = recvmsg(l->udp_fd, &msg, MSG_DONTWAIT);

    if (n < 0) {
        return errno != EAGAIN; /* an ICMP error of an earlier reply: taken by this */
    }
    if (l->kind == DNS_GUEST) {
        asker.client = dns_clients_get(d->clients, &asker.from, d->params.clock->mono_ms());
    }
    /* Port 0 cannot be answered. */
    if ((msg.msg_flags & MSG_TRUNC) || asker.from.in.sin_port == 0 ||
        (l->kind == DNS_GUEST && !asker.client)) {
        COUNT(d, dropped);
        return true;
    }
    read_local(&msg, &asker.local);
    dns_ask(d, &asker, data, (size_t)n);
    return true;
}

static void on_datagrams(void *arg, uint32_t events)
{
    (void)events;
    for (int i = 0; i < DATAGRAMS_AT_ONCE && receive(arg); i++) {
        /* the next */
    }
}

/* ---- TCP ---- */

/* Whether one more may be had; makes room by closing who has been idle for longest. */
static bool make_room(struct dns_listener *l)
{
    if (l->connection_count < l->dns->params.tcp_max) {
        return true;
    }
    list_for_each (it, &l->connections) {
        struct dns_connection *c = LIST_ENTRY(it, struct dns_connection, node);

        if (list_is_empty(&c->waiting)) {
            dns_connection_free(c);
            return true;
        }
    }
    return false;
}

static void admit(struct dns_listener *l, int accepted, const union dns_endpoint *from)
{
    _cleanup_close_ int fd = accepted;
    struct dns *d = l->dns;
    struct dns_client *client = NULL;

    if (l->kind == DNS_GUEST) {
        client = dns_clients_get(d->clients, from, d->params.clock->mono_ms());
        if (!client || client->connections >= d->params.tcp_guest_max) {
            COUNT(d, dropped);
            return;
        }
    }
    if (!make_room(l)) {
        COUNT(d, dropped);
        return;
    }
    dns_connection_new(l, STEAL_FD(fd), client, from);
}

static void accept_again(void *arg)
{
    struct dns_listener *l = arg;

    loop_source_set_events(l->tcp, EPOLLIN);
}

static void on_accept(void *arg, uint32_t events)
{
    struct dns_listener *l = arg;

    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        union dns_endpoint from;
        socklen_t len = sizeof(from);
        int fd = accept4(l->tcp_fd, &from.sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            admit(l, fd, &from);
            continue;
        }
        /* Out of descriptors, the socket stays readable: look again when some may be free. */
        if (errno == EMFILE || errno == ENFILE) {
            log_warn("dns: no descriptor left for a new connection");
            loop_source_set_events(l->tcp, 0);
            loop_source_set_deadline(l->accept_again, clock_mono_ms() + ACCEPT_PAUSE_MS);
        }
        return;
    }
}

/* ---- making and ending ---- */

void dns_listener_free(struct dns_listener *l)
{
    while (!list_is_empty(&l->connections)) {
        dns_connection_free(LIST_ENTRY(l->connections.next, struct dns_connection, node));
    }
    loop_source_free(l->udp);
    loop_source_free(l->tcp);
    loop_source_free(l->accept_again);
    close_p(&l->udp_fd);
    close_p(&l->tcp_fd);
    list_remove(&l->node);
    free(l);
}

static void serve_on_loop(void *arg)
{
    struct dns_listener *l = arg;
    struct loop *loop = l->dns->params.loop;

    list_append(&l->dns->listeners, &l->node);
    l->udp = loop_add_io(loop, l->udp_fd, EPOLLIN, on_datagrams, l);
    l->tcp = loop_add_io(loop, l->tcp_fd, EPOLLIN, on_accept, l);
    l->accept_again = loop_add_timer(loop, -1, accept_again, l);
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Has the kernel tell which address a datagram came to. */
static int prepare_udp(int fd, int family)
{
    int one = 1, bytes = RECEIVE_BYTES;

    if (family != AF_INET && family != AF_INET6) {
        return -EAFNOSUPPORT;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)); /* only better with it */
    if ((family == AF_INET
             ? setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one))
             : setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one))) < 0) {
        return -errno;
    }
    return 0;
}

int dns_serve(struct dns *d, int udp_fd, int tcp_fd, enum dns_kind kind, struct err *err)
{
    _cleanup_close_ int udp = udp_fd, tcp = tcp_fd;
    union dns_endpoint bound;
    socklen_t len = sizeof(bound);
    struct dns_listener *l;
    int r;

    memset(&bound, 0, sizeof(bound));
    r = getsockname(udp, &bound.sa, &len) < 0 ? -errno : prepare_udp(udp, bound.sa.sa_family);
    if (r == 0) {
        r = set_nonblocking(udp);
    }
    if (r == 0) {
        r = set_nonblocking(tcp);
    }
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "prepare sockets for DNS");
    }
    l = x_calloc(1, sizeof(*l));
    l->dns = d;
    l->kind = kind;
    l->udp_fd = STEAL_FD(udp);
    l->tcp_fd = STEAL_FD(tcp);
    l->bound = bound;
    list_init(&l->connections);
    loop_call(d->params.loop, serve_on_loop, l);
    return 0;
}

/* A bound socket, or -errno. */
static int bind_socket(const union dns_endpoint *at, int type)
{
    _cleanup_close_ int fd = socket(at->sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;

    if (fd < 0) {
        return -errno;
    }
    if (at->sa.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) {
        return -errno;
    }
    /* Of TCP: connections of an earlier daemon may still be in TIME_WAIT. */
    if (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0) {
        return -errno;
    }
    if (bind(fd, &at->sa, dns_endpoint_len(at)) < 0 ||
        (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)) {
        return -errno;
    }
    return STEAL_FD(fd);
}

/* Both sockets at one address; the port goes into `at`. */
static int bind_both(union dns_endpoint *at, int *ret_udp, int *ret_tcp)
{
    _cleanup_close_ int udp = bind_socket(at, SOCK_DGRAM);
    socklen_t len = sizeof(*at);
    int tcp;

    if (udp < 0) {
        return udp;
    }
    if (getsockname(udp, &at->sa, &len) < 0) {
        return -errno;
    }
    tcp = bind_socket(at, SOCK_STREAM);
    if (tcp < 0) {
        return tcp;
    }
    *ret_udp = STEAL_FD(udp);
    *ret_tcp = tcp;
    return 0;
}

int dns_listen(struct dns *d, const struct sockaddr *addr, enum dns_kind kind, uint16_t *ret_port,
               struct err *err)
{
    union dns_endpoint at;
    int udp = -1, tcp = -1, r, tries = 0;

    if (addr->sa_family != AF_INET && addr->sa_family != AF_INET6) {
        return err_set(err, ERR_INVALID, "an address for DNS must be IPv4 or IPv6");
    }
    do {
        memset(&at, 0, sizeof(at));
        memcpy(&at, addr, addr->sa_family == AF_INET ? sizeof(at.in) : sizeof(at.in6));
        /* The port is at the same place in both. */
        tries = at.in.sin_port == 0 ? tries + 1 : PORT_TRIES;
        r = bind_both(&at, &udp, &tcp);
    } while (r == -EADDRINUSE && tries < PORT_TRIES);
    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "listen for DNS");
    }
    if (dns_serve(d, udp, tcp, kind, err) < 0) {
        return -1;
    }
    if (ret_port) {
        *ret_port = ntohs(at.in.sin_port);
    }
    return 0;
}
