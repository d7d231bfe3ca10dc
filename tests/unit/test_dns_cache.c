/* The DNS server: the cache, the limits of guests, the file of servers upstream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dns/cache.h"
#include "dns/clients.h"
#include "dns/upstreams.h"
#include "dns_fixture.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/socket.h>

static struct dns_fixture fixture(struct dns_params params, unsigned servers)
{
    params.clock = &dns_fixture_clock;
    return dns_fixture_new(params, servers);
}

/* ---- cache ---- */

static void answers_are_kept_until_their_ttl_is_over(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int other = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.8");
    struct dns_message m;
    struct dns_stats stats;

    (void)state;
    dns_fill(&fx, fd, "example.org", DNS_NOERROR, 2, 100);
    dns_fixture_advance(40500);
    dns_query(other, "EXAMPLE.org", DNS_A, &m);
    dns_check_addresses(&m, 2, 60);
    dns_fixture_advance(59499);
    dns_query(fd, "example.org", DNS_A, &m);
    dns_check_addresses(&m, 2, 1);
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.from_cache, 2);
    dns_fixture_advance(1);
    dns_fill(&fx, fd, "example.org", DNS_NOERROR, 3, 0);
    dns_fill(&fx, fd, "example.org", DNS_NOERROR, 4, 100000); /* 0 was not kept */
    dns_fixture_advance((int64_t)DNS_CACHE_TTL_MAX_S * 1000 - 1);
    dns_query(fd, "example.org", DNS_A, &m);
    dns_check_addresses(&m, 4, 100000 - DNS_CACHE_TTL_MAX_S + 1);
    dns_fixture_advance(1);
    dns_fill(&fx, fd, "example.org", DNS_NOERROR, 1, 100);
}

static void negative_answers_are_kept_for_less(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_message m;

    (void)state;
    dns_fill(&fx, fd, "none.org", DNS_NXDOMAIN, 0, 30);
    dns_fill(&fx, fd, "nodata.org", DNS_NOERROR, 0, 30);
    dns_fixture_advance(29000);
    dns_query(fd, "none.org", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
    assert_int_equal(m.answer.ttl_s, 1);
    dns_query(fd, "nodata.org", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_NOERROR);
    assert_int_equal(m.authorities, 1);
    dns_fixture_advance(1000);
    dns_fill(&fx, fd, "none.org", DNS_NOERROR, 1, 100);
    dns_fill(&fx, fd, "nodata.org", DNS_NOERROR, 1, 100);
    dns_fill(&fx, fd, "long.org", DNS_NXDOMAIN, 0, 100000);
    dns_fixture_advance((int64_t)DNS_CACHE_NEGATIVE_TTL_MAX_S * 1000 - 1);
    dns_query(fd, "long.org", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
    dns_fixture_advance(1);
    dns_fill(&fx, fd, "long.org", DNS_NOERROR, 1, 100);
}

static struct dns_question question_of(const char *name)
{
    struct dns_question q = {.type = DNS_A, .class = DNS_CLASS_IN};

    assert_int_equal(dns_name_from_text(name, &q.name), 0);
    return q;
}

static void the_cache_is_bounded(void **state)
{
    struct hash_key key = {{1, 2}};
    struct dns_cache *c = dns_cache_new(&key, 3, 100000);
    struct dns_question a = question_of("a"), b = question_of("B"), d = question_of("d");
    struct dns_question e = question_of("e"), lower = question_of("b");
    static uint8_t bytes[10000];
    uint32_t age_s;
    size_t len;

    (void)state;
    dns_cache_put(c, &a, bytes, 100, 10, 0);
    dns_cache_put(c, &b, bytes, 100, 10, 0);
    dns_cache_put(c, &d, bytes, 100, 10, 0);
    dns_cache_put(c, &d, bytes, 200, 10, 0); /* in the place of the other */
    assert_int_equal(dns_cache_count(c), 3);
    assert_non_null(dns_cache_get(c, &a, 0, &len, &age_s));
    dns_cache_put(c, &e, bytes, 100, 10, 0);
    assert_int_equal(dns_cache_count(c), 3);
    assert_null(dns_cache_get(c, &lower, 0, &len, &age_s)); /* least recently used */
    assert_non_null(dns_cache_get(c, &d, 5500, &len, &age_s));
    assert_int_equal(len, 200);
    assert_int_equal(age_s, 5);
    dns_cache_put(c, &e, bytes, 10000, 10, 0); /* too large: and the old one is gone */
    assert_null(dns_cache_get(c, &e, 0, &len, &age_s));
    assert_null(dns_cache_get(c, &d, 10000, &len, &age_s));
    dns_cache_clear(c);
    assert_int_equal(dns_cache_count(c), 0);
    assert_int_equal(dns_cache_bytes(c), 0);
    dns_cache_free(c);
    c = dns_cache_new(&key, 1000, 50000);
    for (unsigned i = 0; i < 200; i++) {
        char name[16];
        struct dns_question q;

        (void)snprintf(name, sizeof(name), "n%u", i);
        q = question_of(name);
        dns_cache_put(c, &q, bytes, 1000, 10, 0);
        assert_true(dns_cache_bytes(c) <= 50000);
        assert_non_null(dns_cache_get(c, &q, 0, &len, &age_s));
    }
    dns_cache_free(c);
}

/* ---- limits ---- */

static void the_same_question_goes_out_once(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int one = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int two = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.8");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_send_query(one, "example.org", DNS_A, false);
    up = dns_upstream_take(&fx, 0);
    dns_send_query(two, "Example.ORG", DNS_A, true);
    dns_query(two, "none.vm", DNS_A, &m); /* so it has been taken */
    dns_expect_no_query(&fx, 0);
    dns_upstream_reply(&up, DNS_NOERROR, 1, 100);
    dns_receive(one, &m);
    dns_check_addresses(&m, 1, 100);
    assert_false(m.has_edns);
    dns_receive(two, &m);
    dns_check_addresses(&m, 1, 100);
    assert_true(m.has_edns);
    assert_memory_equal(m.answer.question.name.wire, "\7Example\3ORG", 13);
}

static void a_guest_has_so_many_questions_out(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        fixture((struct dns_params){.guest_outstanding = 4}, 1);
    _cleanup_close_ int greedy = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int second = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int other = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.8");
    struct dns_upstream_query up[4];
    struct dns_message m;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(up); i++) {
        char name[] = "n0.org";

        name[1] = (char)('0' + i);
        dns_send_query(greedy, name, DNS_A, false);
        up[i] = dns_upstream_take(&fx, 0);
    }
    dns_query(greedy, "more.org", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
    dns_query(second, "more.org", DNS_A, &m); /* by another way: the same guest */
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
    dns_expect_no_query(&fx, 0);
    dns_fill(&fx, other, "example.org", DNS_NOERROR, 1, 100);
    dns_query(greedy, "example.org", DNS_A, &m); /* what is known goes on */
    dns_check_addresses(&m, 1, 100);
    dns_upstream_reply(&up[2], DNS_NOERROR, 2, 100);
    dns_receive(greedy, &m);
    dns_check_addresses(&m, 2, 100);
    dns_fill(&fx, greedy, "more.org", DNS_NOERROR, 1, 100);
}

static void a_few_guests_cannot_have_all_that_may_be_out(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        fixture((struct dns_params){.outstanding_max = 16}, 1);
    unsigned got[6] = {0}, all = 0;
    struct dns_message m;

    (void)state;
    for (unsigned guest = 0; guest < ARRAY_LEN(got); guest++) {
        char address[] = "127.0.1.1";
        int fd;

        address[8] = (char)('1' + guest);
        fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, address);
        for (;;) {
            char name[] = "n00.org";

            name[1] = (char)('a' + guest);
            name[2] = (char)('a' + got[guest]);
            dns_send_query(fd, name, DNS_A, false);
            dns_send_query(fd, "none.vm", DNS_A, false);
            dns_receive(fd, &m);
            if (m.answer.rcode == DNS_REFUSED) {
                break;
            }
            assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
            (void)dns_upstream_take(&fx, 0);
            got[guest]++;
        }
        all += got[guest];
        close_p(&fd);
    }
    assert_int_equal(got[0], 4);
    assert_true(got[ARRAY_LEN(got) - 1] > 0);
    assert_true(all <= 16);
}

static void a_guest_that_floods_is_not_heard_and_others_are(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx =
        fixture((struct dns_params){.guest_rate = 10, .guest_burst = 20}, 1);
    _cleanup_close_ int flood = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int tcp = dns_client(&fx, SOCK_STREAM, DNS_GUEST, "127.0.0.9");
    _cleanup_close_ int other = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.8");
    struct dns_message m;
    struct dns_stats stats;
    uint8_t byte;

    (void)state;
    for (int i = 0; i < 50; i++) {
        dns_send_query(flood, "none.vm", DNS_A, false);
    }
    dns_query(other, "none.vm", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
    for (int i = 0; i < 20; i++) {
        dns_receive(flood, &m);
    }
    assert_int_equal(recv(flood, &byte, 1, MSG_DONTWAIT), -1);
    dns_get_stats(fx.dns, &stats);
    assert_int_equal(stats.dropped, 30);
    dns_query(tcp, "none.vm", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
    dns_fixture_advance(100); /* one more */
    dns_query(tcp, "none.vm", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
    dns_query(tcp, "none.vm", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
    dns_fixture_advance(3600 * 1000);
    for (int i = 0; i < 20; i++) {
        dns_query(tcp, "none.vm", DNS_A, &m);
        assert_int_equal(m.answer.rcode, DNS_NXDOMAIN);
    }
    dns_query(tcp, "none.vm", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_REFUSED);
}

static void clients_are_forgotten_when_there_are_too_many(void **state)
{
    struct hash_key key = {{1, 2}};
    struct dns_clients *cs = dns_clients_new(&key, 10, 10);
    union dns_endpoint from = {.in = {.sin_family = AF_INET, .sin_port = 5}};
    struct dns_client *first, *second;

    (void)state;
    from.in.sin_addr.s_addr = 1;
    first = dns_clients_get(cs, &from, 0);
    first->outstanding = 1;
    from.in.sin_addr.s_addr = 2;
    second = dns_clients_get(cs, &from, 0);
    second->tokens = 0;
    for (uint32_t i = 3; i <= CLIENTS_MAX + 10; i++) {
        from.in.sin_addr.s_addr = i;
        assert_non_null(dns_clients_get(cs, &from, 0));
    }
    from.in.sin_addr.s_addr = 1;
    from.in.sin_port = 6; /* of no matter */
    assert_ptr_equal(dns_clients_get(cs, &from, 0), first);
    from.in.sin_addr.s_addr = 2;
    assert_int_equal(dns_clients_get(cs, &from, 0)->tokens, 10000); /* a new one */
    dns_clients_free(cs);
}

/* ---- resolv.conf ---- */

static void nameserver_lines_are_read(void **state)
{
    static const char text[] = "# nameserver 9.9.9.9\n"
                               "search a b\n"
                               " nameserver 9.9.9.9\n"
                               "nameserver\n"
                               "nameserver \n"
                               "nameserverx 9.9.9.9\n"
                               "nameserver 999.9.9.9\n"
                               "nameserver fe80::1%no-such-interface\n"
                               "nameserver \t 192.0.2.1 # comment\n"
                               "nameserver fe80::1%lo\r\n"
                               "nameserver 2001:db8::1";
    union dns_endpoint got[DNS_UPSTREAMS_MAX];
    struct in6_addr v6;

    (void)state;
    assert_int_equal(dns_upstreams_parse(text, 53, got), 3);
    assert_int_equal(got[0].in.sin_family, AF_INET);
    assert_int_equal(got[0].in.sin_port, htons(53));
    assert_int_equal(got[0].in.sin_addr.s_addr, htonl(0xC0000201));
    assert_int_equal(got[1].in6.sin6_family, AF_INET6);
    assert_int_equal(got[1].in6.sin6_scope_id, if_nametoindex("lo"));
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &v6), 1);
    assert_memory_equal(&got[2].in6.sin6_addr, &v6, sizeof(v6));
    assert_int_equal(dns_upstreams_parse("nameserver fe80::1%7\n", 53, got), 1);
    assert_int_equal(got[0].in6.sin6_scope_id, 7);
    assert_int_equal(dns_upstreams_parse("", 53, got), 0);
    assert_int_equal(dns_upstreams_parse("nameserver ::1\nnameserver ::1\nnameserver ::1\n"
                                         "nameserver ::2\n",
                                         53, got),
                     DNS_UPSTREAMS_MAX);
}

static void another_file_has_other_servers(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct dns_upstream_query up;
    struct dns_message m;

    (void)state;
    dns_fill(&fx, fd, "example.org", DNS_NOERROR, 1, 100);
    dns_fixture_write_resolv_conf(&fx, 0, 1); /* another file that says the same */
    dns_query(fd, "example.org", DNS_A, &m);
    dns_check_addresses(&m, 1, 100);
    dns_fixture_write_resolv_conf(&fx, 2, 1);
    dns_send_query(fd, "example.org", DNS_A, false); /* what the others said is forgotten */
    up = dns_upstream_take(&fx, 2);
    dns_upstream_reply(&up, DNS_NOERROR, 2, 100);
    dns_receive(fd, &m);
    dns_check_addresses(&m, 2, 100);
    assert_int_equal(unlinkat(fx.scratch.fd, "resolv.conf", 0), 0);
    dns_query(fd, "example.org", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_SERVFAIL);
    dns_fixture_write_resolv_conf(&fx, 0, 1);
    dns_fill(&fx, fd, "example.org", DNS_NOERROR, 3, 100);
}

static void a_listener_of_ours_is_not_asked(void **state)
{
    _cleanup_dns_fixture_ struct dns_fixture fx = fixture((struct dns_params){0}, 1);
    _cleanup_close_ int fd = dns_client(&fx, SOCK_DGRAM, DNS_GUEST, "127.0.0.9");
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(fx.upstream_port)};
    struct dns_message m;
    struct err err;

    (void)state;
    close_p(&fx.upstream[0]);
    close_p(&fx.upstream_tcp);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(dns_listen(fx.dns, (struct sockaddr *)&sa, DNS_GUEST, NULL, &err), 0);
    dns_query(fd, "example.org", DNS_A, &m);
    assert_int_equal(m.answer.rcode, DNS_SERVFAIL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_kept_until_their_ttl_is_over),
        cmocka_unit_test(negative_answers_are_kept_for_less),
        cmocka_unit_test(the_cache_is_bounded),
        cmocka_unit_test(the_same_question_goes_out_once),
        cmocka_unit_test(a_guest_has_so_many_questions_out),
        cmocka_unit_test(a_few_guests_cannot_have_all_that_may_be_out),
        cmocka_unit_test(a_guest_that_floods_is_not_heard_and_others_are),
        cmocka_unit_test(clients_are_forgotten_when_there_are_too_many),
        cmocka_unit_test(nameserver_lines_are_read),
        cmocka_unit_test(another_file_has_other_servers),
        cmocka_unit_test(a_listener_of_ours_is_not_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
