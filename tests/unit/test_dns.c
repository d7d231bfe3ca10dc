/* The DNS server: its own zones, its listeners, clients on UDP and TCP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/str.h"
#include "dns_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define WEB_V4 "10.77.0.2"
#define WEB_V6 "fd00::2"

static struct dns_fixture zone_fixture(void)
{
    struct dns_fixture fx = dns_fixture_new((struct dns_params){0}, 0);

    dns_fixture_set(&fx, "id-web", "web", WEB_V4, WEB_V6);
    dns_fixture_set(&fx, "id-old", "old", "10.77.0.3", NULL);
    return fx;
}

static void check_address(const struct dns_message *m, const char *want)
{
    char text[INET6_ADDRSTRLEN];

    assert_int_equal(m->answer.rcode, DNS_NOERROR);
    assert_int_equal(m->address_count, 1);
    assert_non_null(inet_ntop(m->addresses[0].family, m->addresses[0].bytes, text, sizeof(text)));
    assert_string_equal(text, want);
    assert_int_equal(m->ttl_s, DNS_OWN_TTL_S);
}

static void check_negative(const struct dns_message *m, enum dns_rcode rcode)
{
    assert_int_equal(m->answer.rcode, rcode);
    assert_true(m->aa);
    assert_int_equal(m->answers, 0);
    assert_int_equal(m->authorities, 1);
    assert_true(m->answer.is_cacheable); /* the SOA */
    assert_int_equal(m->answer.ttl_s, DNS_OWN_NEGATIVE_TTL_S);
}

static void a_name_has_its_addresses(void **state)
{
    static const char *const names[] = {"web.vm", "WEB.Vm", "x.web.vm", "a.b.c.web.vm", "*.web.vm"};
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();

    (void)state;
    for (int kind = DNS_HOST; kind <= DNS_GUEST; kind++) {
        _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, kind, "127.0.0.9");

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            struct dns_name want;
            struct dns_message m;

            dns_query(fd, names[i], DNS_A, &m);
            check_address(&m, WEB_V4);
            assert_true(m.aa);
            assert_int_equal(m.ra, kind == DNS_GUEST);
            assert_false(m.has_edns);
            /* In the case it was asked. */
            assert_int_equal(dns_name_from_text(names[i], &want), 0);
            assert_memory_equal(m.answer.question.name.wire, want.wire, want.len);
            dns_query(fd, names[i], DNS_AAAA, &m);
            check_address(&m, WEB_V6);
            dns_query(fd, names[i], DNS_ANY, &m);
            assert_int_equal(m.answers, 2);
        }
    }
}

static void what_is_not_there_is_denied_with_an_soa(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct dns_message m;

    (void)state;
    dns_query(fd, "web.vm", 15, &m);
    check_negative(&m, DNS_NOERROR);
    dns_query(fd, "old.vm", DNS_AAAA, &m);
    check_negative(&m, DNS_NOERROR);
    dns_query(fd, "x.old.vm", DNS_AAAA, &m);
    check_negative(&m, DNS_NOERROR);
    dns_query(fd, "none.vm", DNS_A, &m);
    check_negative(&m, DNS_NXDOMAIN);
    dns_query(fd, "web.none.vm", DNS_A, &m);
    check_negative(&m, DNS_NXDOMAIN);
    dns_query(fd, "vm", DNS_A, &m);
    check_negative(&m, DNS_NOERROR);
    dns_query(fd, "vm", DNS_SOA, &m);
    assert_int_equal(m.answer.rcode, DNS_NOERROR);
    assert_int_equal(m.answers, 1);
    assert_true(m.aa);
}

/* The text of the only PTR of a message; its name is whole there. */
static void check_pointer(const struct dns_message *m, const char *want)
{
    struct dns_name name, wanted;
    size_t at;

    assert_int_equal(dns_name_from_text(want, &wanted), 0);
    assert_int_equal(m->answer.rcode, DNS_NOERROR);
    assert_int_equal(m->answers, 1);
    assert_true(m->aa);
    at = m->len - wanted.len;
    assert_int_equal(dns_name_parse(m->data, m->len, &at, &name), 0);
    assert_true(dns_name_eq(&name, &wanted));
}

#define ZEROS_13 "0.0.0.0.0.0.0.0.0.0.0.0.0"

static void addresses_have_their_names(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct dns_message m;

    (void)state;
    dns_fixture_set(&fx, "id-far", "far", "192.168.7.7", NULL);
    dns_query(fd, "2.0.77.10.in-addr.arpa", DNS_PTR, &m);
    check_pointer(&m, "web.vm");
    dns_query(fd, "2." ZEROS_13 "." ZEROS_13 ".0.0.0.D.F.IP6.arpa", DNS_PTR, &m);
    check_pointer(&m, "web.vm");
    dns_query(fd, "3." ZEROS_13 "." ZEROS_13 ".0.0.0.D.F.IP6.arpa", DNS_PTR, &m);
    check_negative(&m, DNS_NXDOMAIN);
    dns_query(fd, "2." ZEROS_13 "." ZEROS_13 ".0.0.D.F.IP6.arpa", DNS_PTR, &m);
    check_negative(&m, DNS_NOERROR); /* one label short: a part of an address */
    dns_query(fd, "2." ZEROS_13 "." ZEROS_13 ".0.0.0.0.D.F.IP6.arpa", DNS_PTR, &m);
    check_negative(&m, DNS_NXDOMAIN); /* one too many */
    dns_query(fd, "7.7.168.192.in-addr.arpa", DNS_PTR, &m);
    check_pointer(&m, "far.vm"); /* not of our ranges, but known */
    dns_query(fd, "7.7.168.192.in-addr.arpa", DNS_A, &m);
    check_negative(&m, DNS_NOERROR);
    dns_query(fd, "9.0.77.10.in-addr.arpa", DNS_PTR, &m);
    check_negative(&m, DNS_NXDOMAIN);
    dns_query(fd, "0.77.10.in-addr.arpa", DNS_PTR, &m);
    check_negative(&m, DNS_NOERROR); /* names are below it */
    dns_query(fd, "77.10.in-addr.arpa", DNS_SOA, &m);
    assert_int_equal(m.answers, 1);
    dns_query(fd, "x.0.77.10.in-addr.arpa", DNS_PTR, &m);
    check_negative(&m, DNS_NXDOMAIN);
    dns_query(fd, "10.in-addr.arpa", DNS_PTR, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
    dns_query(fd, "8.7.168.192.in-addr.arpa", DNS_PTR, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
}

static void names_come_and_go(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct in_addr v4 = {.s_addr = htonl(0x0A4D0003)}, none = {0};
    struct dns_message m;
    struct dns_stats stats;
    struct err err;

    (void)state;
    dns_fixture_set(&fx, "id-web", "new", "10.77.0.8", NULL);
    dns_query(fd, "web.vm", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
    dns_query(fd, "new.vm", DNS_A, &m);
    check_address(&m, "10.77.0.8");
    dns_query(fd, "2.0.77.10.in-addr.arpa", DNS_PTR, &m);
    assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
    assert_int_equal(dns_set_name(fx.dns, "id-x", "new", none, &in6addr_loopback, &err), -1);
    assert_int_equal(err.code, ERR_ALREADY_EXISTS);
    assert_int_equal(dns_set_name(fx.dns, "id-x", "x", v4, NULL, &err), -1);
    assert_int_equal(err.code, ERR_ALREADY_EXISTS);
    assert_int_equal(dns_set_name(fx.dns, "id-x", "X", v4, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(dns_set_name(fx.dns, "id-x", "x", none, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(dns_set_name(fx.dns, "", "x", v4, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    dns_remove_name(fx.dns, "id-old");
    dns_remove_name(fx.dns, "id-old");
    assert_int_equal(dns_set_name(fx.dns, "id-x", "old", v4, NULL, &err), 0);
    dns_query(fd, "old.vm", DNS_A, &m);
    check_address(&m, "10.77.0.3");
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.names, 2);
}

static void many_names_are_found(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct err err;

    (void)state;
    for (uint32_t i = 0; i < 16000; i++) {
        _cleanup_free_ char *name = x_asprintf("n%u", i);
        struct in_addr v4 = {.s_addr = htonl(0x0A4D1000 + i)};

        assert_int_equal(dns_set_name(fx.dns, name, name, v4, NULL, &err), 0);
    }
    for (uint32_t i = 0; i < 16000; i += 977) {
        _cleanup_free_ char *name = x_asprintf("n%u.vm", i);
        struct dns_message m;

        dns_query(fd, name, DNS_A, &m);
        assert_int_equal(m.address_count, 1);
        assert_int_equal(m.addresses[0].bytes[3], (0x1000 + i) & 0xFF);
    }
}

struct changing {
    struct dns *dns;
    atomic_bool ends;
};

static void *change_names(void *arg)
{
    struct changing *c = arg;
    struct in_addr v4 = {.s_addr = htonl(0x0A4D0101)};
    struct err err;

    while (!atomic_load(&c->ends)) {
        if (dns_set_name(c->dns, "id-c", "c", v4, NULL, &err) < 0) {
            return c;
        }
        dns_remove_name(c->dns, "id-c");
    }
    return NULL;
}

static void names_change_while_they_are_asked_for(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct changing c = {.dns = fx.dns};
    struct dns_message m;
    pthread_t thread;
    void *failed;

    (void)state;
    assert_int_equal(thread_start(&thread, "change", 256, change_names, &c), 0);
    for (int i = 0; i < 500; i++) {
        dns_query(fd, "c.vm", DNS_A, &m);
        assert_true(m.answer.rcode == DNS_NXDOMAIN || m.address_count == 1);
    }
    atomic_store(&c.ends, true);
    pthread_join(thread, &failed);
    assert_null(failed);
}

static void who_may_ask_what(void **state)
{
    static const struct {
        const char *name;
        unsigned type, host, guest;
    } cases[] = {
        {"example.org", DNS_A, DNS_REFUSED, DNS_SERVFAIL}, /* no server upstream */
        {"localhost", DNS_A, DNS_REFUSED, DNS_NOERROR},
        {"a.LOCALHOST", DNS_AAAA, DNS_REFUSED, DNS_NOERROR},
        {"localhost", 15, DNS_REFUSED, DNS_NOERROR},
        {"vm", 252, DNS_REFUSED, DNS_REFUSED}, /* AXFR */
        {"example.org", 251, DNS_REFUSED, DNS_REFUSED},
        {".", 2, DNS_REFUSED, DNS_SERVFAIL},
    };
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int host = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    _cleanup_close_ int guest = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_message m;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        dns_query(host, cases[i].name, cases[i].type, &m);
        assert_int_equal(m.answer.rcode, cases[i].host);
        dns_query(guest, cases[i].name, cases[i].type, &m);
        assert_int_equal(m.answer.rcode, cases[i].guest);
        assert_int_equal(m.address_count, cases[i].guest == DNS_NOERROR && cases[i].type != 15);
    }
}

/* Sends a question for web.vm that was changed at one byte; its rcode. */
static unsigned changed(int fd, size_t at, uint8_t value, bool edns)
{
    struct dns_question q = {.type = DNS_A, .class = DNS_CLASS_IN};
    uint8_t data[DNS_QUERY_MAX];
    struct dns_message m;
    size_t len;

    assert_int_equal(dns_name_from_text("web.vm", &q.name), 0);
    len = dns_query_build(data, 7, &q, edns);
    data[at] = value;
    dns_send_bytes(fd, data, len);
    dns_receive_bytes(fd, &m);
    assert_true(m.len >= DNS_HEADER_SIZE);
    assert_int_equal(m.data[1], 7);
    assert_int_equal(m.data[2] >> 3, 0x10 | (at == 2 ? value >> 3 : 0)); /* a reply, same opcode */
    return (m.data[3] & 15U) | (m.data[11] ? (unsigned)m.data[m.len - 6] << 4 : 0);
}

static void bad_queries_are_answered_with_their_error(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int udp = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_stats stats;

    (void)state;
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? udp : tcp;

        assert_int_equal(changed(fd, 5, 0, false), DNS_FORMERR);
        assert_int_equal(changed(fd, 5, 2, false), DNS_FORMERR);
        assert_int_equal(changed(fd, 12, 64, false), DNS_FORMERR);
        assert_int_equal(changed(fd, 12, 0xC0, false), DNS_FORMERR);
        assert_int_equal(changed(fd, 11, 1, false), DNS_FORMERR);
        assert_int_equal(changed(fd, 2, 0x28, false), DNS_NOTIMP);
        assert_int_equal(changed(fd, 12 + 8 + 4 + 6, 3, true), DNS_BADVERS);
        assert_int_equal(changed(fd, 12 + 8 + 3, 3, false), DNS_REFUSED); /* class CH */
        assert_int_equal(changed(fd, 2, 0, false), DNS_NOERROR);          /* RD is not needed */
    }
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.malformed, 14);
    assert_int_equal(stats.refused, 2);
    assert_int_equal(stats.from_zone, 2);
    assert_int_equal(stats.queries, 18);
}

static void what_is_no_query_gets_no_answer(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    uint8_t reply[DNS_HEADER_SIZE] = {0, 1, 0x80};
    uint8_t large[5000] = {0};
    struct dns_message m;
    struct dns_stats stats;

    (void)state;
    dns_send_bytes(fd, reply, sizeof(reply));
    dns_send_bytes(fd, reply, 11);
    dns_send_bytes(fd, reply, 0);
    dns_send_bytes(fd, large, sizeof(large));
    /* They are taken in order, so this is the only answer. */
    dns_query(fd, "web.vm", DNS_A, &m);
    check_address(&m, WEB_V4);
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.dropped, 4);
}

static void a_reply_comes_from_the_address_that_was_asked(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(fx.guest_port)};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct dns_message m;

    (void)state;
    /* A connected socket hears nobody else. */
    to.sin_addr.s_addr = htonl(0x7F000305);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    dns_query(fd, "web.vm", DNS_A, &m);
    check_address(&m, WEB_V4);
}

static void ipv6_is_served(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    struct dns_message m;
    struct err err;
    uint16_t port;

    (void)state;
    if (dns_listen(fx.dns, (struct sockaddr *)&any, DNS_GUEST, &port, &err) < 0) {
        printf("skip ipv6_is_served: %s\n", err.message);
        skip();
    }
    any.sin6_addr = in6addr_loopback;
    any.sin6_port = htons(port);
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        _cleanup_close_ int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);

        if (connect(fd, (struct sockaddr *)&any, sizeof(any)) < 0) {
            printf("skip ipv6_is_served: no ::1\n");
            skip();
        }
        dns_query(fd, "web.vm", DNS_AAAA, &m);
        check_address(&m, WEB_V6);
    }
}

static void an_address_in_use_is_an_error(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(fx.host_port)};
    struct sockaddr other = {.sa_family = AF_UNIX};
    struct err err;

    (void)state;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(dns_listen(fx.dns, (struct sockaddr *)&sa, DNS_HOST, NULL, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(dns_listen(fx.dns, &other, DNS_HOST, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(dns_serve(fx.dns, -1, -1, DNS_HOST, &err), -1);
    assert_int_equal(err.code, ERR_IO);
}

static void bad_params_are_refused(void **state)
{
    static const char *const domains[] = {"", ".", "VM", "a..b", "-a", "vm."};
    struct dns_range range = {.address = {.family = AF_INET}, .prefix = 7};
    struct dns *dns = NULL;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(domains); i++) {
        struct dns_params params = {.domain = domains[i]};

        assert_int_equal(dns_open(&params, &dns, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    for (unsigned prefix = 7; prefix <= 33; prefix += 26) {
        struct dns_params params = {.domain = "vm", .ranges = &range, .range_count = 1};

        range.prefix = prefix;
        assert_int_equal(dns_open(&params, &dns, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_null(dns);
    dns_close(NULL);
}

/* ---- TCP ---- */

static void queries_on_a_connection_may_be_pipelined(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    _cleanup_close_ int fd = dns_client(&fx, SOCK_STREAM, DNS_HOST, "127.0.0.9");
    struct dns_question q = {.type = DNS_A, .class = DNS_CLASS_IN};
    uint8_t bytes[100 * (2 + DNS_QUERY_MAX)];
    size_t len = 0;
    struct dns_message m;

    (void)state;
    assert_int_equal(dns_name_from_text("web.vm", &q.name), 0);
    for (uint16_t i = 0; i < 100; i++) {
        size_t n = dns_query_build(bytes + len + 2, i, &q, i % 2);

        bytes[len] = 0;
        bytes[len + 1] = (uint8_t)n;
        len += 2 + n;
    }
    /* In pieces that end anywhere. */
    for (size_t at = 0; at < len; at += 97) {
        size_t n = len - at < 97 ? len - at : 97;

        assert_int_equal(send(fd, bytes + at, n, MSG_NOSIGNAL), n);
    }
    assert_int_equal(shutdown(fd, SHUT_WR), 0); /* answered all the same, and then closed */
    for (uint16_t i = 0; i < 100; i++) {
        dns_receive(fd, &m);
        assert_int_equal(m.answer.id, i);
        assert_int_equal(m.has_edns, i % 2);
        check_address(&m, WEB_V4);
    }
    dns_expect_end(fd);
}

static void a_client_that_does_not_read_is_not_read_from(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        dns_fixture_new((struct dns_params){.tcp_idle_ms = 300}, 0);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_STREAM, DNS_HOST, "127.0.0.9");
    _cleanup_close_ int other = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct dns_question q = {.type = DNS_A, .class = DNS_CLASS_IN};
    uint8_t bytes[2 + DNS_QUERY_MAX];
    struct dns_message m;
    size_t len;
    ssize_t n;

    (void)state;
    dns_fixture_set(&fx, "id-web", "web", WEB_V4, WEB_V6);
    assert_int_equal(dns_name_from_text("web.vm", &q.name), 0);
    len = dns_query_build(bytes + 2, 7, &q, false);
    bytes[0] = 0;
    bytes[1] = (uint8_t)len;
    /* Until the buffers of both sides are full; then it has taken too long, and is closed. */
    do {
        n = send(fd, bytes, 2 + len, MSG_NOSIGNAL);
    } while (n > 0);
    assert_true(errno == EPIPE || errno == ECONNRESET);
    dns_query(other, "web.vm", DNS_A, &m);
    check_address(&m, WEB_V4);
}

static void idle_and_slow_clients_are_let_go(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        dns_fixture_new((struct dns_params){.tcp_idle_ms = 50}, 0);
    _cleanup_close_ int idle = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int slow = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int once = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_message m;

    (void)state;
    assert_int_equal(send(slow,
                          "\0\x20"
                          "abc",
                          5, MSG_NOSIGNAL),
                     5);
    dns_query(once, "none.vm", DNS_A, &m);
    dns_expect_end(idle);
    dns_expect_end(slow);
    dns_expect_end(once);
}

static void messages_of_a_wrong_size_end_a_connection(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = zone_fixture();
    static const char *const heads[] = {"\0\0", "\0\xB", "\x10\1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        _cleanup_close_ int fd = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");

        assert_int_equal(send(fd, heads[i], 2, MSG_NOSIGNAL), 2);
        dns_expect_end(fd);
    }
}

static void a_guest_has_so_many_connections(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        dns_fixture_new((struct dns_params){.tcp_guest_max = 2, .tcp_max = 3}, 0);
    _cleanup_close_ int first = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int second = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int third = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_message m;

    (void)state;
    dns_expect_end(third);
    dns_query(first, "none.vm", DNS_A, &m); /* the other is idle for longer now */
    {
        _cleanup_close_ int other = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.8");
        _cleanup_close_ int last = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.7");

        dns_query(other, "none.vm", DNS_A, &m);
        dns_query(last, "none.vm", DNS_A, &m);
        dns_expect_end(second); /* beyond what a listener has */
        dns_query(first, "none.vm", DNS_A, &m);
    }
    /* What has ended counts no more. */
    close_p(&first);
    first = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    dns_query(first, "none.vm", DNS_A, &m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_has_its_addresses),
        cmocka_unit_test(what_is_not_there_is_denied_with_an_soa),
        cmocka_unit_test(addresses_have_their_names),
        cmocka_unit_test(names_come_and_go),
        cmocka_unit_test(many_names_are_found),
        cmocka_unit_test(names_change_while_they_are_asked_for),
        cmocka_unit_test(who_may_ask_what),
        cmocka_unit_test(bad_queries_are_answered_with_their_error),
        cmocka_unit_test(what_is_no_query_gets_no_answer),
        cmocka_unit_test(a_reply_comes_from_the_address_that_was_asked),
        cmocka_unit_test(ipv6_is_served),
        cmocka_unit_test(an_address_in_use_is_an_error),
        cmocka_unit_test(bad_params_are_refused),
        cmocka_unit_test(queries_on_a_connection_may_be_pipelined),
        cmocka_unit_test(a_client_that_does_not_read_is_not_read_from),
        cmocka_unit_test(idle_and_slow_clients_are_let_go),
        cmocka_unit_test(messages_of_a_wrong_size_end_a_connection),
        cmocka_unit_test(a_guest_has_so_many_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
