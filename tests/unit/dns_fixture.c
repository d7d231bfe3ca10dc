#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/str.h"
#include "dns_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* ---- time ---- */

static _Atomic int64_t now_ms = 1000000;

static int64_t tell_ms(void)
{
    return atomic_load(&now_ms);
}

const struct clock dns_fixture_clock = {.mono_ms = tell_ms, .boot_ms = tell_ms, .real_ms = tell_ms};

void dns_fixture_advance(int64_t ms)
{
    atomic_fetch_add(&now_ms, ms);
}

/* ---- sockets ---- */

static void await(int fd)
{
    assert_int_equal(cancel_wait_fd(NULL, fd, POLLIN, test_deadline()), 0);
}

static struct sockaddr_in at(const char *address, uint16_t port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};

    assert_int_equal(inet_pton(AF_INET, address, &sa.sin_addr), 1);
    return sa;
}

static int bound(int type, const char *address, uint16_t port)
{
    struct sockaddr_in sa = at(address, port);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        (type == SOCK_STREAM && listen(fd, 8) < 0)) {
        assert_int_equal(errno, EADDRINUSE);
        close_p(&fd);
    }
    return fd;
}

/* One port that is free at all addresses, on both protocols. */
static void bind_upstreams(struct dns_fixture *fx)
{
    bool all = false;

    while (!all) {
        struct sockaddr_in sa;
        socklen_t len = sizeof(sa);

        fx->upstream[0] = bound(SOCK_DGRAM, "127.0.0.1", 0);
        assert_int_equal(getsockname(fx->upstream[0], (struct sockaddr *)&sa, &len), 0);
        fx->upstream_port = ntohs(sa.sin_port);
        fx->upstream[1] = bound(SOCK_DGRAM, "127.0.0.2", fx->upstream_port);
        fx->upstream[2] = bound(SOCK_DGRAM, "127.0.0.3", fx->upstream_port);
        fx->upstream_tcp = bound(SOCK_STREAM, "127.0.0.1", fx->upstream_port);
        all = fx->upstream[1] >= 0 && fx->upstream[2] >= 0 && fx->upstream_tcp >= 0;
        if (!all) {
            for (unsigned i = 0; i < UPSTREAMS; i++) {
                close_p(&fx->upstream[i]);
            }
            close_p(&fx->upstream_tcp);
        }
    }
}

void dns_fixture_write_resolv_conf(struct dns_fixture *fx, unsigned first, unsigned count)
{
    _cleanup_free_ char *text = x_strdup("# written by a test\noptions edns0\n");

    for (unsigned i = first; i < first + count; i++) {
        char *longer = x_asprintf("%snameserver 127.0.0.%u\n", text, i + 1);

        free(text);
        text = longer;
    }
    /* A new file in the place of the old one. */
    assert_int_equal(
        fs_write_atomic(fx->scratch.fd, "resolv.conf", text, strlen(text), 0600, false), 0);
}

struct dns_fixture dns_fixture_new(struct dns_params params, unsigned servers)
{
    static const struct dns_range ranges[] = {
        {.address = {.family = AF_INET, .bytes = {10, 77}}, .prefix = 16},
        {.address = {.family = AF_INET6, .bytes = {0xFD}}, .prefix = 16},
    };
    struct dns_fixture fx = {.scratch = scratch_new()};
    struct sockaddr_in any = at("127.0.0.1", 0), guests = at("0.0.0.0", 0);
    _cleanup_free_ char *path = x_asprintf("%s/resolv.conf", fx.scratch.path);
    struct err err;

    bind_upstreams(&fx);
    dns_fixture_write_resolv_conf(&fx, 0, servers);
    assert_int_equal(loop_new("dns", &fx.loop), 0);
    params.loop = fx.loop;
    params.domain = "vm";
    params.ranges = ranges;
    params.range_count = ARRAY_LEN(ranges);
    params.resolv_conf = path;
    params.upstream_port = fx.upstream_port;
    assert_int_equal(dns_open(&params, &fx.dns, &err), 0);
    assert_int_equal(dns_listen(fx.dns, (struct sockaddr *)&any, DNS_HOST, &fx.host_port, &err), 0);
    assert_int_equal(
        dns_listen(fx.dns, (struct sockaddr *)&guests, DNS_GUEST, &fx.guest_port, &err), 0);
    return fx;
}

void dns_fixture_done(struct dns_fixture *fx)
{
    dns_close(fx->dns);
    loop_free(fx->loop);
    for (unsigned i = 0; i < UPSTREAMS; i++) {
        close_p(&fx->upstream[i]);
    }
    close_p(&fx->upstream_tcp);
    scratch_done(&fx->scratch);
}

void dns_fixture_set(struct dns_fixture *fx, const char *id, const char *name, const char *ipv4,
                     const char *ipv6)
{
    struct in_addr v4 = {0};
    struct in6_addr v6;
    struct err err;

    if (ipv4) {
        assert_int_equal(inet_pton(AF_INET, ipv4, &v4), 1);
    }
    if (ipv6) {
        assert_int_equal(inet_pton(AF_INET6, ipv6, &v6), 1);
    }
    assert_int_equal(dns_set_name(fx->dns, id, name, v4, ipv6 ? &v6 : NULL, &err), 0);
}

/* ---- clients ---- */

int dns_client(const struct dns_fixture *fx, int type, enum dns_kind kind, const char *address)
{
    struct sockaddr_in from = at(address, 0);
    struct sockaddr_in to = at("127.0.0.1", kind == DNS_HOST ? fx->host_port : fx->guest_port);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static bool is_stream(int fd)
{
    int type;
    socklen_t len = sizeof(type);

    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len), 0);
    return type == SOCK_STREAM;
}

void dns_send_bytes(int fd, const void *data, size_t len)
{
    uint8_t bytes[2 + DNS_MESSAGE_MAX] = {(uint8_t)(len >> 8), (uint8_t)len};
    size_t head = is_stream(fd) ? 2 : 0;

    memcpy(bytes + head, data, len);
    assert_int_equal(send(fd, bytes, head + len, MSG_NOSIGNAL), head + len);
}

void dns_send_query(int fd, const char *name, unsigned type, bool edns)
{
    struct dns_question q = {.type = (uint16_t)type, .class = DNS_CLASS_IN};
    uint8_t data[DNS_QUERY_MAX];

    assert_int_equal(dns_name_from_text(name, &q.name), 0);
    dns_send_bytes(fd, data, dns_query_build(data, 7, &q, edns));
}

static void read_whole(int fd, void *data, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n;

        await(fd);
        n = recv(fd, (uint8_t *)data + got, len - got, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
}

static size_t read_message(int fd, uint8_t *data)
{
    uint8_t head[2];
    size_t len;
    ssize_t n;

    if (!is_stream(fd)) {
        await(fd);
        n = recv(fd, data, DNS_MESSAGE_MAX, 0);
        assert_true(n >= 0);
        return (size_t)n;
    }
    read_whole(fd, head, 2);
    len = (size_t)head[0] << 8 | head[1];
    read_whole(fd, data, len);
    return len;
}

void dns_receive_bytes(int fd, struct dns_message *ret)
{
    ret->len = read_message(fd, ret->data);
}

void dns_receive(int fd, struct dns_message *ret)
{
    dns_receive_bytes(fd, ret);
    assert_int_equal(dns_answer_parse(ret->data, ret->len, &ret->answer), 0);
    ret->aa = ret->data[2] & 4;
    ret->tc = ret->data[2] & 2;
    ret->ra = ret->data[3] & 0x80;
    ret->answers = (unsigned)ret->data[6] << 8 | ret->data[7];
    ret->authorities = (unsigned)ret->data[8] << 8 | ret->data[9];
    ret->has_edns = ret->data[11];
    ret->address_count = dns_answer_addresses(ret->data, ret->len, 0, ARRAY_LEN(ret->addresses),
                                              ret->addresses, &ret->ttl_s);
}

void dns_query(int fd, const char *name, unsigned type, struct dns_message *ret)
{
    dns_send_query(fd, name, type, false);
    dns_receive(fd, ret);
    assert_int_equal(ret->answer.id, 7);
}

void dns_expect_end(int fd)
{
    uint8_t byte;
    ssize_t n;

    await(fd);
    n = recv(fd, &byte, 1, 0);
    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* ---- upstream ---- */

void dns_expect_no_query(const struct dns_fixture *fx, unsigned index)
{
    uint8_t byte;

    assert_int_equal(recv(fx->upstream[index], &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
    assert_int_equal(errno, EAGAIN);
}

struct dns_upstream_query dns_upstream_take(const struct dns_fixture *fx, unsigned index)
{
    struct dns_upstream_query q = {.fd = fx->upstream[index]};
    socklen_t len = sizeof(q.from);
    uint8_t data[DNS_QUERY_MAX];
    ssize_t n;

    await(q.fd);
    n = recvfrom(q.fd, data, sizeof(data), 0, (struct sockaddr *)&q.from, &len);
    assert_true(n > 0);
    assert_int_equal(dns_query_parse(data, (size_t)n, &q.query), 0);
    assert_int_equal(q.query.rcode, DNS_NOERROR);
    return q;
}

struct dns_upstream_query dns_upstream_take_tcp(const struct dns_fixture *fx)
{
    struct dns_upstream_query q = {.tcp = true};
    uint8_t data[DNS_MESSAGE_MAX];

    await(fx->upstream_tcp);
    q.fd = accept4(fx->upstream_tcp, NULL, NULL, SOCK_CLOEXEC);
    assert_true(q.fd >= 0);
    assert_int_equal(dns_query_parse(data, read_message(q.fd, data), &q.query), 0);
    return q;
}

size_t dns_upstream_build(const struct dns_upstream_query *q, enum dns_rcode rcode, unsigned count,
                          uint32_t ttl_s, uint8_t *ret_data)
{
    bool is_v4 = q->query.question.type == DNS_A;
    struct dns_address a = {.family = is_v4 ? AF_INET : AF_INET6, .bytes = {192, 0, 2}};
    struct dns_name zone;
    struct dns_soa soa = {
        .zone = &zone, .server = &zone, .mailbox = &zone, .negative_ttl_s = ttl_s};
    struct dns_reply r;

    if (!is_v4) {
        memcpy(a.bytes, "\x20\x01\x0d\xb8", 4);
    }
    assert_int_equal(dns_name_from_text("org", &zone), 0);
    dns_reply_begin(&r, ret_data, DNS_MESSAGE_MAX, &q->query, rcode, DNS_FLAG_RA);
    for (unsigned i = 1; i <= count; i++) {
        a.bytes[is_v4 ? 3 : 15] = (uint8_t)i;
        dns_reply_add_address(&r, &a, ttl_s);
    }
    if (count == 0) {
        dns_reply_add_soa(&r, DNS_AUTHORITY, &soa);
    }
    return dns_reply_end(&r);
}

void dns_upstream_send(const struct dns_upstream_query *q, const uint8_t *data, size_t len)
{
    if (q->tcp) {
        dns_send_bytes(q->fd, data, len);
    } else {
        assert_int_equal(
            sendto(q->fd, data, len, 0, (const struct sockaddr *)&q->from, sizeof(q->from)), len);
    }
}

void dns_upstream_reply(const struct dns_upstream_query *q, enum dns_rcode rcode, unsigned count,
                        uint32_t ttl_s)
{
    uint8_t data[DNS_MESSAGE_MAX];

    dns_upstream_send(q, data, dns_upstream_build(q, rcode, count, ttl_s, data));
}

void dns_check_addresses(const struct dns_message *m, size_t count, uint32_t ttl_s)
{
    assert_int_equal(m->answer.rcode, DNS_NOERROR);
    assert_int_equal(m->address_count, count);
    assert_int_equal(m->ttl_s, ttl_s);
}

void dns_fill(struct dns_fixture *fx, int fd, const char *name, enum dns_rcode rcode,
              unsigned count, uint32_t ttl_s)
{
    struct dns_upstream_query up;
    struct dns_message m;

    dns_send_query(fd, name, DNS_A, false);
    up = dns_upstream_take(fx, 0);
    dns_upstream_reply(&up, rcode, count, ttl_s);
    dns_receive(fd, &m);
    assert_int_equal(m.answer.rcode, rcode);
    assert_int_equal(m.address_count, count);
}
