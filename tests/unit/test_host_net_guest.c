/* host/net*.c: what packets of guests may do, with frames on the TAPs' descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/str.h"
#include "net_site.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define OUTSIDE "192.0.2.2"
#define OUTSIDE6 "2001:db8::2"
#define ECHO_PORT 7

/* Guests --------------------------------------------------------------------------------------- */

static void a_guest_reaches_beyond_the_host_as_the_host(void **state)
{
    struct frame f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "hello");
    int fd, far, far6;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    site_attach(&w, 1, 5, true);
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    far6 = net_socket(true, SOCK_DGRAM, OUTSIDE6, ECHO_PORT);
    tap_send(fd, &f);
    socket_expect(far, "hello", "192.0.2.1", "answer");
    tap_expect(fd, "udp " OUTSIDE " > " GUEST_A " 4000: answer");
    f = frame_udp(GUEST_A6, OUTSIDE6, ECHO_PORT, "hello6");
    tap_send(fd, &f);
    socket_expect(far6, "hello6", "2001:db8::1", "answer6");
    tap_expect(fd, "udp " OUTSIDE6 " > " GUEST_A6 " 4000: answer6");
    (void)close(fd);
    (void)close(far);
    (void)close(far6);
    site_close(&w);
    site_done(&w);
}

static void forged_senders_are_dropped(void **state)
{
    static const struct {
        const char *from, *to, *mac;
    } cases[] = {
        {GUEST_A, OUTSIDE, "02:ba:17:00:00:03"}, {"10.201.0.99", OUTSIDE, HOST_GUEST_MAC},
        {GUEST_B, OUTSIDE, HOST_GUEST_MAC},      {GATEWAY, OUTSIDE, HOST_GUEST_MAC},
        {"192.0.2.7", OUTSIDE, HOST_GUEST_MAC},  {"127.0.0.1", OUTSIDE, HOST_GUEST_MAC},
        {GUEST_B, GATEWAY, HOST_GUEST_MAC},
    };
    static const struct {
        const char *from, *to, *mac;
    } cases6[] = {
        {GUEST_A6, OUTSIDE6, "02:ba:17:00:00:03"},
        {"fd00:201::6", OUTSIDE6, HOST_GUEST_MAC},
        {"fe80::ba:17ff:fe00:2", "fe80::1", HOST_GUEST_MAC},
        {"::", OUTSIDE6, HOST_GUEST_MAC},
        {"2001:db8::7", OUTSIDE6, HOST_GUEST_MAC},
    };
    struct frame f;
    int fd, second, far, far6;
    _cleanup_free_ char *rules = NULL, *neighbours = NULL;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    second = site_tap(&w, 2);
    site_attach(&w, 1, 5, true);
    site_attach(&w, 2, 6, true);
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    far6 = net_socket(true, SOCK_DGRAM, OUTSIDE6, ECHO_PORT);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        f = frame_udp(cases[i].from, cases[i].to, ECHO_PORT, "forged");
        frame_from_mac(&f, cases[i].mac);
        tap_send(fd, &f);
    }
    for (size_t i = 0; i < ARRAY_LEN(cases6); i++) {
        f = frame_udp(cases6[i].from, cases6[i].to, ECHO_PORT, "forged");
        frame_from_mac(&f, cases6[i].mac);
        tap_send(fd, &f);
    }
    f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "real");
    tap_send(fd, &f);
    socket_expect(far, "real", "192.0.2.1", "back");
    f = frame_udp(GUEST_A6, OUTSIDE6, ECHO_PORT, "real");
    tap_send(fd, &f);
    socket_expect(far6, "real", "2001:db8::1", NULL);
    tap_expect(fd, "udp " OUTSIDE " > " GUEST_A " 4000: back");
    rules = net_output("nft list chain inet banger guard_guest");
    assert_non_null(strstr(rules, "counter packets 12 "));
    neighbours = net_output("ip -6 neigh show dev bgr-1");
    assert_null(strstr(neighbours, "fe80"));
    (void)close(fd);
    (void)close(second);
    (void)close(far);
    (void)close(far6);
    site_close(&w);
    site_done(&w);
}

static void what_a_guest_must_not_reach_is_refused_at_once(void **state)
{
    static const char *const refused[] = {"169.254.169.254", "192.0.2.1", "224.0.0.5", GUEST_B};
    static const char *const refused6[] = {"2001:db8::1", "fd00:ec2::254", "fd00:201::6"};
    struct frame f;
    int fd, second, dns, any, listener, host;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    second = site_tap(&w, 2);
    site_attach(&w, 1, 5, true);
    site_attach(&w, 2, 6, true);
    any = net_socket(false, SOCK_DGRAM, "192.0.2.1", 53);
    dns = net_socket(false, SOCK_DGRAM, GATEWAY, 53);
    listener = net_socket(false, SOCK_STREAM, "0.0.0.0", 80);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        _cleanup_free_ char *says =
            x_asprintf("icmp %s > " GUEST_A " 3/13", i == 1 ? refused[i] : GATEWAY);

        f = frame_udp(GUEST_A, refused[i], 53, "no");
        tap_send(fd, &f);
        /* What goes to many is not answered. */
        if (!str_starts_with(refused[i], "224.")) {
            tap_expect(fd, says);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(refused6); i++) {
        _cleanup_free_ char *says =
            x_asprintf("icmp6 %s > " GUEST_A6 " 1/1", i == 0 ? refused6[i] : GATEWAY6);

        f = frame_udp(GUEST_A6, refused6[i], 53, "no");
        tap_send(fd, &f);
        tap_expect(fd, says);
    }
    f = frame_syn(GUEST_A, GATEWAY, 80);
    tap_send(fd, &f);
    tap_expect(fd, "tcp " GATEWAY " > " GUEST_A " ack rst");
    f = frame_udp(GUEST_A, GATEWAY, 53, "yes");
    tap_send(fd, &f);
    socket_expect(dns, "yes", GUEST_A, NULL);
    /* Nothing came to the other guest before this. */
    host = net_socket(false, SOCK_DGRAM, "0.0.0.0", 0);
    socket_send(host, GUEST_B, 9, "marker");
    tap_expect(second, "udp " GATEWAY " > " GUEST_B " 9: marker");
    (void)close(host);
    (void)close(fd);
    (void)close(second);
    (void)close(dns);
    (void)close(any);
    (void)close(listener);
    site_close(&w);
    site_done(&w);
}

static void the_gateway_answers_dns_and_echo_and_who_it_is(void **state)
{
    _cleanup_free_ char *before = NULL, *after = NULL;
    struct frame f;
    int fd, dns, dns6, listener;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    site_attach(&w, 1, 5, false);
    dns = net_socket(false, SOCK_DGRAM, GATEWAY, 53);
    dns6 = net_socket(false, SOCK_DGRAM, GATEWAY6, 53);
    listener = net_socket(false, SOCK_STREAM, GATEWAY, 53);
    before = net_output("ip neigh show nud all");
    f = frame_arp(GUEST_A, "192.0.2.1"); /* not for a guest to ask */
    tap_send(fd, &f);
    f = frame_arp(GUEST_B, GATEWAY); /* not who it is */
    tap_send(fd, &f);
    f = frame_arp(GUEST_A, GATEWAY);
    frame_from_mac(&f, HOST_GUEST_MAC);
    tap_send(fd, &f);
    tap_expect(fd, "arp 2 " GATEWAY);
    f = frame_solicit(GUEST_A6, "fe80::1", "fe80::1");
    tap_send(fd, &f);
    tap_expect(fd, "icmp6 fe80::1 > " GUEST_A6 " 136/0");
    f = frame_solicit(GUEST_A6, "ff02::1:ff00:1", "fe80::1");
    tap_send(fd, &f);
    tap_expect(fd, "icmp6 fe80::1 > " GUEST_A6 " 136/0");
    f = frame_echo(GUEST_A, GATEWAY);
    tap_send(fd, &f);
    tap_expect(fd, "icmp " GATEWAY " > " GUEST_A " 0/0");
    f = frame_echo(GUEST_A6, GATEWAY6);
    tap_send(fd, &f);
    tap_expect(fd, "icmp6 " GATEWAY6 " > " GUEST_A6 " 129/0");
    f = frame_udp(GUEST_A, GATEWAY, 53, "query");
    tap_send(fd, &f);
    socket_expect(dns, "query", GUEST_A, "reply");
    tap_expect(fd, "udp " GATEWAY " > " GUEST_A " 4000: reply");
    f = frame_udp(GUEST_A6, GATEWAY6, 53, "query6");
    tap_send(fd, &f);
    socket_expect(dns6, "query6", GUEST_A6, "reply6");
    tap_expect(fd, "udp " GATEWAY6 " > " GUEST_A6 " 4000: reply6");
    f = frame_syn(GUEST_A, GATEWAY, 53);
    tap_send(fd, &f);
    tap_expect(fd, "tcp " GATEWAY " > " GUEST_A " syn ack");
    after = net_output("ip neigh show nud all");
    assert_string_equal(before, after);
    (void)close(fd);
    (void)close(dns);
    (void)close(dns6);
    (void)close(listener);
    site_close(&w);
    site_done(&w);
}

static void a_change_of_nat_counts_for_what_is_open_too(void **state)
{
    struct frame f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "one");
    int fd, far, host;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    site_attach(&w, 1, 5, true);
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    host = net_socket(false, SOCK_DGRAM, "0.0.0.0", 0);
    socket_send(host, GUEST_A, GUEST_PORT, "in"); /* of the host: is let be */
    tap_expect(fd, "udp " GATEWAY " > " GUEST_A " 4000: in");
    tap_send(fd, &f);
    socket_expect(far, "one", "192.0.2.1", "back");
    tap_expect(fd, "udp " OUTSIDE " > " GUEST_A " 4000: back");
    site_attach(&w, 1, 5, false);
    tap_send(fd, &f);
    tap_expect(fd, "icmp " GATEWAY " > " GUEST_A " 3/13");
    site_attach(&w, 1, 5, true);
    tap_send(fd, &f);
    socket_expect(far, "one", "192.0.2.1", NULL);
    (void)close(fd);
    (void)close(far);
    (void)close(host);
    site_close(&w);
    site_done(&w);
}

static void a_guest_that_is_detached_is_forgotten(void **state)
{
    _cleanup_free_ char *after = NULL;
    struct frame other, f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "one");
    struct frame f6 = frame_udp(GUEST_A6, OUTSIDE6, ECHO_PORT, "one");
    struct sockaddr_in back;
    socklen_t len = sizeof(back);
    char text[16];
    int fd, second, far, far6;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    second = site_tap(&w, 2);
    site_attach(&w, 1, 5, true);
    site_attach(&w, 2, 6, true);
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    far6 = net_socket(true, SOCK_DGRAM, OUTSIDE6, ECHO_PORT);
    other = frame_udp(GUEST_B, OUTSIDE, ECHO_PORT + 1, "other");
    tap_send(second, &other);
    tap_send(fd, &f);
    assert_int_equal(cancel_wait_fd(NULL, far, POLLIN, test_deadline()), 0);
    assert_int_equal(recvfrom(far, text, sizeof(text), 0, (struct sockaddr *)&back, &len), 3);
    tap_send(fd, &f6);
    socket_expect(far6, "one", "2001:db8::1", NULL);
    site_detach(&w, 1, 5);
    site_detach(&w, 1, 5);
    assert_switch("/proc/sys/net/netfilter/nf_conntrack_count", "1\n"); /* the other's */
    tap_send(fd, &f);
    /* Whoever has its place next gets none of its answers. */
    site_attach(&w, 1, 5, true);
    assert_int_equal(sendto(far, "late", 4, 0, (struct sockaddr *)&back, len), 4);
    tap_send(fd, &f6);
    socket_expect(far6, "one", "2001:db8::1", "now");
    tap_expect(fd, "udp " OUTSIDE6 " > " GUEST_A6 " 4000: now");
    site_detach(&w, 1, 5);
    (void)close(fd);
    fd = site_tap(&w, 1);
    after = net_state();
    assert_non_null(strstr(after, "bgr-1"));
    assert_null(strstr(after, "\"bgr-1\" ."));
    assert_null(strstr(after, GUEST_A " dev"));
    (void)close(fd);
    (void)close(far);
    (void)close(far6);
    (void)close(second);
    site_close(&w);
    site_done(&w);
}

static void another_guest_in_its_place_takes_it_over(void **state)
{
    struct frame f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "old");
    _cleanup_free_ char *routes = NULL;
    int fd, far;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    site_attach(&w, 1, 5, true);
    site_attach(&w, 1, 6, true);
    site_detach(&w, 1, 5); /* was not attached any more */
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    tap_send(fd, &f);
    f = frame_udp(GUEST_B, OUTSIDE, ECHO_PORT, "new");
    tap_send(fd, &f);
    socket_expect(far, "new", "192.0.2.1", NULL);
    routes = net_output("ip route show dev bgr-1");
    assert_null(strstr(routes, GUEST_A));
    assert_non_null(strstr(routes, GUEST_B));
    (void)close(fd);
    (void)close(far);
    site_close(&w);
    site_done(&w);
}

static void guests_of_other_addresses_are_refused(void **state)
{
    struct host_nic wrong[6];
    struct err err;
    SITE(w, false)

    site_open(&w);
    (void)close(site_tap(&w, 1));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        wrong[i] = site_nic(1, 5, false);
    }
    wrong[0].ipv4 = site_subnet.ipv4 | 1;
    wrong[1].ipv4 = site_subnet.ipv4;
    wrong[2].ipv4 = site_subnet.ipv4 | 0xffff;
    wrong[3].ipv4 = 0x0ACA0005;
    wrong[4].ipv6[15] = 1;
    wrong[5].ipv6[3] = 2;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(host_nic_attach(w.host, &wrong[i], &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_int_equal(host_nic_detach(w.host, &wrong[i], &err), -1);
    }
    site_close(&w);
    site_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_reaches_beyond_the_host_as_the_host),
        cmocka_unit_test(forged_senders_are_dropped),
        cmocka_unit_test(what_a_guest_must_not_reach_is_refused_at_once),
        cmocka_unit_test(the_gateway_answers_dns_and_echo_and_who_it_is),
        cmocka_unit_test(a_change_of_nat_counts_for_what_is_open_too),
        cmocka_unit_test(a_guest_that_is_detached_is_forgotten),
        cmocka_unit_test(another_guest_in_its_place_takes_it_over),
        cmocka_unit_test(guests_of_other_addresses_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
