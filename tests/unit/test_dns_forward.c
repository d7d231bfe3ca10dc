/* The DNS server: questions of guests that go upstream, and what comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "dns_fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#define FAST_MS 60 /* until the next server is asked, where a test waits for it */

static struct dns_fixture fixture(struct dns_params params, unsigned servers)
{
    params.clock = &dns_fixture_clock;
    return dns_fixture_new(params, servers);
}

static void other_names_are_asked_upstream(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;
    struct dns_stats stats;

    (void)state;
    dns_send_query(fd, "Www.Example.ORG", DNS_AAAA, true);
    up = dns_upstream_take(&fx, 0);
    assert_true(dns_query_wants_recursion(&up.query));
    assert_true(up.query.has_edns);
    assert_int_equal(up.query.question.type, DNS_AAAA);
    assert_memory_equal(up.query.question.name.wire, "\3www\7example\3org", 17);
    dns_upstream_reply(&up, DNS_NOERROR, 3, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 3, 100);
    assert_int_equal(m.answer.id, 7);
    assert_memory_equal(m.answer.question.name.wire, "\3Www\7Example\3ORG", 17);
    assert_false(m.aa);
    assert_true(m.ra);
    assert_true(m.has_edns);
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.from_upstream, 1);
    assert_int_equal(stats.upstream_tries, 1);
}

static void our_names_are_never_asked_upstream(void **state)
{
    static const char *const names[] = {"none.vm",         "x.y.vm",      "vm",
                                        "localhost",       "a.localhost", "9.9.77.10.in-addr.arpa",
                                        "0.0.d.f.ip6.arpa"};
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int host = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct dns_message m;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        dns_query(fd, names[i], 16, &m);
    }
    dns_query(host, "example.org", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
    dns_expect_no_query(&fx, 0);
}

static void who_wants_no_recursion_is_refused(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_question q = {.type = DNS_A, .class = DNS_CLASS_IN};
    uint8_t data[DNS_QUERY_MAX];
    struct dns_message m;
    size_t len;

    (void)state;
    assert_int_equal(dns_name_from_text("example.org", &q.name), 0);
    len = dns_query_build(data, 7, &q, false);
    data[2] = 0;
    dns_send_bytes(fd, data, len);
    dns_receive(fd, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
    dns_expect_no_query(&fx, 0);
}

/* A datagram to the socket that waits, from another address and port, or another port alone. */
static void send_from_elsewhere(const struct dns_fixture *fx, const struct dns_upstream_query *up,
                                const uint8_t *data, size_t len)
{
    _cleanup_close_ int other = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int sockets[] = {other, fx->upstream[1], fx->upstream[2]};

    for (size_t i = 0; i < ARRAY_LEN(sockets); i++) {
        assert_int_equal(
            sendto(sockets[i], data, len, 0, (const struct sockaddr *)&up->from, sizeof(up->from)),
            len);
    }
}

static void forged_replies_are_ignored(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up, wrong;
    uint8_t data[DNS_MESSAGE_MAX];
    struct dns_message m;
    struct dns_stats stats;
    size_t len;

    (void)state;
    dns_send_query(fd, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 0);
    len = dns_upstream_build(&up, DNS_NOERROR, 5, 100, data);
    send_from_elsewhere(&fx, &up, data, len);
    wrong = up;
    wrong.query.id ^= 1;
    dns_upstream_reply(&wrong, DNS_NOERROR, 5, 100);
    wrong = up;
    wrong.query.question.name.wire[1] ^= 1;
    dns_upstream_reply(&wrong, DNS_NOERROR, 5, 100);
    wrong = up;
    wrong.query.question.type = DNS_AAAA;
    dns_upstream_reply(&wrong, DNS_NOERROR, 5, 100);
    wrong = up;
    wrong.query.question.class = 3;
    dns_upstream_reply(&wrong, DNS_NOERROR, 5, 100);
    len = dns_upstream_build(&up, DNS_NOERROR, 5, 100, data);
    data[2] &= 0x7F;
    dns_upstream_send(&up, data, len); /* a query */
    data[2] |= 0x80;
    dns_upstream_send(&up, data, len - 20); /* a part */
    dns_upstream_reply(&up, DNS_NOERROR, 2, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 2, 100);
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.strays, 6);
    dns_query(fd, "example.org", DNS_A, &m); /* nor did any get into the cache */
    dns_check_addresses(&m, 2, 100);
}

static void who_guesses_ids_gets_another_port(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up, again;
    struct dns_message m;

    (void)state;
    dns_send_query(fd, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 0);
    for (unsigned i = 1; i <= 33; i++) {
        struct dns_upstream_query wrong = up;

        wrong.query.id = (uint16_t)(up.query.id + i);
        dns_upstream_reply(&wrong, DNS_NOERROR, 5, 100);
    }
    again = dns_upstream_take(&fx, 0);
    assert_int_not_equal(again.from.sin_port, up.from.sin_port);
    dns_upstream_reply(&again, DNS_NOERROR, 1, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 1, 100);
}

static void the_next_server_is_asked_when_one_is_silent(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        fixture((struct dns_params){.try_timeout_ms = FAST_MS}, 2);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up, late;
    struct dns_message m;
    struct dns_stats stats;

    (void)state;
    dns_send_query(fd, "a.org", DNS_A, false);
    late = dns_upstream_take(&fx, 0);
    up = dns_upstream_take(&fx, 1);
    assert_int_not_equal(late.from.sin_port, up.from.sin_port);
    dns_upstream_reply(&late, DNS_NOERROR, 5, 100); /* to a socket that is closed */
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 1, 100);
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.upstream_timeouts, 1);
    /* From then on it is the first. */
    dns_send_query(fd, "b.org", DNS_A, false);
    up = dns_upstream_take(&fx, 1);
    dns_upstream_reply(&up, DNS_NOERROR, 2, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 2, 100);
    dns_expect_no_query(&fx, 0);
}

static void when_none_answers_it_is_a_failure(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        fixture((struct dns_params){.try_timeout_ms = FAST_MS / 3}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_send_query(fd, "example.org", DNS_A, true);
    for (int i = 0; i < DNS_TRIES_MAX; i++) {
        (void)dns_upstream_take(&fx, 0);
    }
    dns_receive(fd, &m);
    assert_int_equal(m.answer.rcode, DNS_SERVFAIL);
    assert_true(m.has_edns);
    dns_expect_no_query(&fx, 0);
    /* A failure is not kept. */
    dns_send_query(fd, "example.org", DNS_A, true);
    up = dns_upstream_take(&fx, 0);
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 1, 100);
}

static void a_server_that_is_not_there_is_known_at_once(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 2);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    close_p(&fx.upstream[0]);
    dns_send_query(fd, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 1);
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 1, 100);
}

static void the_next_server_is_asked_when_one_fails(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 2);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    for (int round = 0; round < 2; round++) {
        dns_send_query(fd, "example.org", DNS_A, false);
        up = dns_upstream_take(&fx, 0);
        dns_upstream_reply(&up, round ? DNS_REFUSED : DNS_SERVFAIL, 0, 100);
        up = dns_upstream_take(&fx, 1);
        dns_upstream_reply(&up, round ? DNS_NOERROR : DNS_SERVFAIL, round, 100);
        dns_receive(fd, &m);
        assert_int_equal(m.answer.rcode, round ? DNS_NOERROR : DNS_SERVFAIL);
    }
}

static void an_old_server_is_asked_without_edns(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    uint8_t data[DNS_HEADER_SIZE] = {0, 0, 0x80, DNS_FORMERR};
    struct dns_message m;

    (void)state;
    dns_send_query(fd, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 0);
    data[0] = (uint8_t)(up.query.id >> 8);
    data[1] = (uint8_t)up.query.id;
    dns_upstream_send(&up, data, sizeof(data));
    up = dns_upstream_take(&fx, 0);
    assert_false(up.query.has_edns);
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 1, 100);
}

/* ---- sizes, TCP ---- */

static void a_client_gets_what_it_can_take(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_send_query(fd, "example.org", DNS_A, true);
    up = dns_upstream_take(&fx, 0);
    dns_upstream_reply(&up, DNS_NOERROR, 60, 100);
    dns_receive(fd, &m);
    assert_int_equal(m.answers, 60);
    assert_true(m.len > DNS_UDP_PLAIN && m.len <= DNS_UDP_MAX);
    dns_query(fd, "example.org", DNS_A, &m);
    assert_true(m.tc);
    assert_int_equal(m.answers, 0);
    assert_true(m.len <= DNS_UDP_PLAIN);
    dns_query(tcp, "example.org", DNS_A, &m); /* from the cache, too */
    assert_false(m.tc);
    assert_int_equal(m.answers, 60);
    dns_expect_no_query(&fx, 0);
}

static void send_truncated(const struct dns_upstream_query *up)
{
    uint8_t data[DNS_MESSAGE_MAX];
    size_t len = dns_upstream_build(up, DNS_NOERROR, 2, 100, data);

    data[2] |= 2;
    dns_upstream_send(up, data, len);
}

static void a_truncated_answer_is_asked_again_by_tcp(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int udp = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_send_query(udp, "example.org", DNS_A, true);
    up = dns_upstream_take(&fx, 0);
    send_truncated(&up);
    dns_receive(udp, &m);
    assert_true(m.tc);
    assert_int_equal(m.answers, 0);
    dns_send_query(tcp, "example.org", DNS_A, true);
    up = dns_upstream_take(&fx, 0);
    send_truncated(&up);
    up = dns_upstream_take_tcp(&fx);
    dns_upstream_reply(&up, DNS_NOERROR, 200, 100);
    dns_receive(tcp, &m);
    assert_int_equal(m.answers, 200);
    assert_false(m.tc);
    close_p(&up.fd);
    dns_query(udp, "example.org", DNS_A, &m);
    assert_true(m.tc);
    dns_expect_no_query(&fx, 0); /* it is known now */
}

static void a_connection_that_breaks_is_a_try_that_failed(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_send_query(tcp, "example.org", DNS_A, true);
    up = dns_upstream_take(&fx, 0);
    send_truncated(&up);
    up = dns_upstream_take_tcp(&fx);
    close_p(&up.fd);
    up = dns_upstream_take(&fx, 0);
    send_truncated(&up);
    up = dns_upstream_take_tcp(&fx);
    up.query.id ^= 1;
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    close_p(&up.fd);
    up = dns_upstream_take(&fx, 0);
    dns_upstream_reply(&up, DNS_NOERROR, 3, 100);
    dns_receive(tcp, &m);
    dns_check_addresses(&m, 3, 100);
}

static void answers_on_a_connection_come_as_they_are_there(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query first, second;
    struct dns_message m;

    (void)state;
    dns_send_query(tcp, "one.org", DNS_A, false);
    first = dns_upstream_take(&fx, 0);
    dns_send_query(tcp, "two.org", DNS_A, false);
    second = dns_upstream_take(&fx, 0);
    assert_int_equal(shutdown(tcp, SHUT_WR), 0);
    dns_upstream_reply(&second, DNS_NOERROR, 2, 100);
    dns_receive(tcp, &m);
    dns_check_addresses(&m, 2, 100);
    dns_upstream_reply(&first, DNS_NOERROR, 1, 100);
    dns_receive(tcp, &m);
    dns_check_addresses(&m, 1, 100);
    dns_expect_end(tcp);
}

static void who_waits_for_upstream_is_not_idle(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        fixture((struct dns_params){.tcp_idle_ms = 40}, 1);
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_send_query(tcp, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 0);
    for (int i = 0; i < 3; i++) {
        _cleanup_close_ int idle = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");

        dns_expect_end(idle);
    }
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    dns_receive(tcp, &m);
    dns_check_addresses(&m, 1, 100);
    dns_expect_end(tcp); /* but now it is */
}

static void an_answer_to_nobody_is_kept(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int udp = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    struct linger none = {.l_onoff = 1};
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_send_query(tcp, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 0);
    assert_int_equal(setsockopt(tcp, SOL_SOCKET, SO_LINGER, &none, sizeof(none)), 0);
    close_p(&tcp); /* a reset */
    dns_query(udp, "none.vm", DNS_A, &m);
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    /* Asked meanwhile, or found. */
    dns_send_query(udp, "example.org", DNS_AAAA, false);
    up = dns_upstream_take(&fx, 0);
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    dns_receive(udp, &m);
    dns_check_addresses(&m, 1, 100);
    dns_query(udp, "example.org", DNS_A, &m);
    dns_check_addresses(&m, 1, 100);
    dns_expect_no_query(&fx, 0);
}

/* ---- the hook ---- */

struct noted {
    pthread_mutex_t lock;
    unsigned calls;
    size_t addresses;
    uint32_t ttl_s;
    bool is_own;
    char name[DNS_TEXT_SIZE];
    struct sockaddr_in client;
};

static void note(void *arg, const struct dns_told *told)
{
    struct noted *n = arg;

    pthread_mutex_lock(&n->lock);
    n->calls++;
    n->addresses += told->count;
    n->ttl_s = told->ttl_s;
    n->is_own = told->is_own;
    memcpy(&n->client, told->client, sizeof(n->client));
    (void)snprintf(n->name, sizeof(n->name), "%s", told->name);
    pthread_mutex_unlock(&n->lock);
}

static void check_noted(struct noted *n, unsigned calls, size_t addresses, uint32_t ttl_s)
{
    pthread_mutex_lock(&n->lock);
    assert_int_equal(n->calls, calls);
    assert_int_equal(n->addresses, addresses);
    assert_int_equal(n->ttl_s, ttl_s);
    pthread_mutex_unlock(&n->lock);
}

static void the_owner_is_told_what_guests_are_told(void **state)
{
    struct noted n = {.lock = PTHREAD_MUTEX_INITIALIZER};
    _cleanup_dns_fixture_ struct dns_fixture fx =
        fixture((struct dns_params){.on_answer = note, .on_answer_arg = &n}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int host = dns_client(&fx, SOCK_DGRAM, DNS_HOST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_fixture_set(&fx, "id-web", "web", "10.77.0.2", "fd00::2");
    dns_query(host, "web.vm", DNS_A, &m);
    dns_query(fd, "none.vm", DNS_A, &m);
    dns_query(fd, "web.vm", 16, &m);
    check_noted(&n, 0, 0, 0);
    dns_query(fd, "Web.vm", DNS_A, &m);
    check_noted(&n, 1, 1, DNS_OWN_TTL_S);
    assert_true(n.is_own);
    assert_string_equal(n.name, "Web.vm");
    assert_int_equal(n.client.sin_addr.s_addr, htonl(0x7F000009));
    dns_send_query(tcp, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 0);
    dns_upstream_reply(&up, DNS_NOERROR, 70, 100);
    dns_receive(tcp, &m);
    check_noted(&n, 3, 71, 100); /* in two calls */
    assert_false(n.is_own);
    dns_fixture_advance(30000);
    dns_query(fd, "example.org", DNS_A, &m); /* TC: nothing was told */
    check_noted(&n, 3, 71, 100);
    dns_query(tcp, "example.org", DNS_A, &m);
    check_noted(&n, 5, 141, 70);
}

/* ---- the end ---- */

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

static void closing_ends_what_is_out(void **state)
{
    unsigned before = open_fds();

    (void)state;
    {
        _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
        _cleanup_close_ int udp = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
        _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
        struct dns_upstream_query up;

        dns_send_query(udp, "one.org", DNS_A, false);
        (void)dns_upstream_take(&fx, 0);
        dns_send_query(tcp, "two.org", DNS_A, false);
        up = dns_upstream_take(&fx, 0);
        send_truncated(&up);
        up = dns_upstream_take_tcp(&fx); /* and a connection upstream */
        dns_close(STEAL_PTR(fx.dns));
        dns_expect_end(up.fd);
        dns_expect_end(tcp);
        close_p(&up.fd);
    }
    assert_int_equal(open_fds(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_names_are_asked_upstream),
        cmocka_unit_test(our_names_are_never_asked_upstream),
        cmocka_unit_test(who_wants_no_recursion_is_refused),
        cmocka_unit_test(forged_replies_are_ignored),
        cmocka_unit_test(who_guesses_ids_gets_another_port),
        cmocka_unit_test(the_next_server_is_asked_when_one_is_silent),
        cmocka_unit_test(when_none_answers_it_is_a_failure),
        cmocka_unit_test(a_server_that_is_not_there_is_known_at_once),
        cmocka_unit_test(the_next_server_is_asked_when_one_fails),
        cmocka_unit_test(an_old_server_is_asked_without_edns),
        cmocka_unit_test(a_client_gets_what_it_can_take),
        cmocka_unit_test(a_truncated_answer_is_asked_again_by_tcp),
        cmocka_unit_test(a_connection_that_breaks_is_a_try_that_failed),
        cmocka_unit_test(answers_on_a_connection_come_as_they_are_there),
        cmocka_unit_test(who_waits_for_upstream_is_not_idle),
        cmocka_unit_test(an_answer_to_nobody_is_kept),
        cmocka_unit_test(the_owner_is_told_what_guests_are_told),
        cmocka_unit_test(closing_ends_what_is_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
