/* host/net*.c with the kernel's network, in namespaces of the tests' own, and sys/netlink.h and its
 * like by them. Guests are frames on the TAPs' descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/str.h"
#include "host/host.h"
#include "net_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define GUEST_A "10.201.0.5"
#define GUEST_B "10.201.0.6"
#define GUEST_A6 "fd00:201::5"
#define GATEWAY "10.201.0.1"
#define GATEWAY6 "fd00:201::1"
#define OUTSIDE "192.0.2.2"
#define OUTSIDE6 "2001:db8::2"
#define ECHO_PORT 7

static const struct host_subnet subnet = {
    .ipv4 = 0x0AC90000, .ipv4_bits = 16, .ipv6 = {0xfd, 0, 2, 1}};

static struct host_nic nic(unsigned tap, unsigned number, bool nat)
{
    return (struct host_nic){.tap = tap,
                             .ipv4 = subnet.ipv4 + number,
                             .ipv6 = {0xfd, 0, 2, 1, [15] = (uint8_t)number},
                             .nat = nat};
}

/* A host in a new namespace; its runtime directory. */
struct world {
    struct scratch scratch;
    struct host *host;
    unsigned mtu;
};

static struct host *new_host(const struct world *w)
{
    return host_local_new(&(struct host_local_params){
        .launcher = "/none", .name = w->scratch.path, .cgroup_root = w->scratch.path});
}

/* False, and the test is skipped, where there can be none. */
static bool world_init(struct world *w, bool uplink)
{
    const char *lacks = net_fixture_lacks();

    if (lacks) {
        print_message("skipped: %s\n", lacks);
        return false;
    }
    net_fixture_enter(uplink);
    w->scratch = scratch_new();
    w->host = new_host(w);
    return true;
}

static void world_done(struct world *w)
{
    host_free(w->host);
    scratch_done(&w->scratch);
}

#define WORLD(w, uplink)                                                                           \
    struct world w;                                                                                \
    (void)state;                                                                                   \
    if (!world_init(&w, uplink)) {                                                                 \
        skip();                                                                                    \
    }

static void must(int r, const struct err *err)
{
    if (r < 0) {
        fail_msg("%s", err->message);
    }
}

static void open_net(struct world *w)
{
    struct err err;

    must(host_net_open(w->host, &subnet, &w->mtu, &err), &err);
}

static void close_net(struct world *w)
{
    struct err err;

    must(host_net_close(w->host, &err), &err);
}

static int open_tap(struct world *w, unsigned tap)
{
    struct err err;
    int fd = -1;

    must(host_tap_open(w->host, tap, &fd, &err), &err);
    return fd;
}

static void attach(struct world *w, unsigned tap, unsigned number, bool nat)
{
    struct host_nic n = nic(tap, number, nat);
    struct err err;

    must(host_nic_attach(w->host, &n, &err), &err);
}

static void detach(struct world *w, unsigned tap, unsigned number)
{
    struct host_nic n = nic(tap, number, false);
    struct err err;

    must(host_nic_detach(w->host, &n, &err), &err);
}

static void assert_taps(struct world *w, const char *expected)
{
    _cleanup_buf_ struct buf text = {.max = 4096};
    _cleanup_free_ unsigned *taps = NULL;
    struct err err;
    size_t count;

    must(host_tap_list(w->host, &taps, &count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(buf_printf(&text, "%u ", taps[i]), 0);
    }
    assert_int_equal(buf_append_u8(&text, 0), 0);
    assert_string_equal((const char *)buf_head(&text), expected);
}

/* Open and close ------------------------------------------------------------------------------- */

static void close_leaves_all_as_it_was(void **state)
{
    _cleanup_free_ char *before = NULL, *during = NULL, *after = NULL;
    WORLD(w, true)

    net_run("ip link set up0 mtu 1400");
    before = net_state();
    open_net(&w);
    assert_int_equal(w.mtu, 1400);
    (void)close(open_tap(&w, 3));
    (void)close(open_tap(&w, 16383));
    attach(&w, 3, 5, true);
    during = net_state();
    assert_string_not_equal(before, during);
    close_net(&w);
    after = net_state();
    assert_string_equal(before, after);
    assert_int_equal(faccessat(w.scratch.fd, "network.sysctls", F_OK, 0), -1);
    close_net(&w); /* nothing is there, and that is fine */
    world_done(&w);
}

static void a_helper_that_was_killed_is_cleaned_up_after(void **state)
{
    _cleanup_free_ char *before = NULL, *after = NULL;
    WORLD(w, true)

    before = net_state();
    open_net(&w);
    (void)close(open_tap(&w, 1));
    attach(&w, 1, 5, true);
    host_free(w.host); /* which leaves everything */
    assert_int_equal(faccessat(w.scratch.fd, "network.sysctls", F_OK, 0), 0);
    w.host = new_host(&w);
    close_net(&w);
    after = net_state();
    assert_string_equal(before, after);
    world_done(&w);
}

static void a_next_helper_takes_over_and_guests_are_attached_again(void **state)
{
    struct frame f = frame_udp(GUEST_A, GATEWAY, 53, "again");
    int fd, dns;
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    attach(&w, 1, 5, true);
    dns = net_socket(false, SOCK_DGRAM, GATEWAY, 53);
    host_free(w.host);
    w.host = new_host(&w);
    open_net(&w);
    open_net(&w);
    assert_taps(&w, "1 ");
    f = frame_udp(GUEST_A, GATEWAY, 53, "not attached");
    tap_send(fd, &f);
    attach(&w, 1, 5, true);
    f = frame_udp(GUEST_A, GATEWAY, 53, "attached");
    tap_send(fd, &f);
    socket_expect(dns, "attached", GUEST_A, NULL);
    (void)close(fd);
    (void)close(dns);
    close_net(&w);
    world_done(&w);
}

static void another_subnet_takes_the_place_of_one_that_was_left(void **state)
{
    struct host_subnet other = {.ipv4 = 0x0AC91000, .ipv4_bits = 20, .ipv6 = {0xfd, 1}};
    _cleanup_free_ char *addresses = NULL;
    struct err err;
    WORLD(w, true)

    open_net(&w);
    host_free(w.host);
    w.host = new_host(&w);
    must(host_net_open(w.host, &other, &w.mtu, &err), &err);
    addresses = net_output("ip addr show dev lo");
    assert_null(strstr(addresses, GATEWAY "/"));
    assert_null(strstr(addresses, GATEWAY6 "/"));
    assert_non_null(strstr(addresses, "10.201.16.1/32"));
    assert_int_equal(host_net_open(w.host, &subnet, &w.mtu, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    close_net(&w);
    world_done(&w);
}

static void a_subnet_that_is_somebodys_is_refused_with_whose_it_is(void **state)
{
    static const struct {
        const char *set_up, *undo, *says;
    } cases[] = {
        {"ip route add 10.201.7.0/24 dev up0", "ip route del 10.201.7.0/24 dev up0",
         "10.201.7.0/24 is routed to 'up0' (table 254)"},
        {"ip route add 10.0.0.0/8 dev up0 table 52", "ip route del 10.0.0.0/8 dev up0 table 52",
         "10.0.0.0/8 is routed to 'up0' (table 52)"},
        {"ip route add blackhole 10.201.0.0/24", "ip route del blackhole 10.201.0.0/24",
         "there is a route for 10.201.0.0/24"},
        {"ip addr add 10.201.0.1/24 dev up0", "ip addr del 10.201.0.1/24 dev up0",
         "'up0' has 10.201.0.1/24"},
        {"ip -6 route add fd00:201::/48 dev up0", "ip -6 route del fd00:201::/48 dev up0",
         "fd00:201::/48 is routed to 'up0'"},
    };
    struct err err;
    WORLD(w, true)

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_free_ char *before = NULL, *after = NULL;

        net_run(cases[i].set_up);
        before = net_state();
        assert_int_equal(host_net_open(w.host, &subnet, &w.mtu, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
        if (!strstr(err.message, cases[i].says)) {
            fail_msg("%s", err.message);
        }
        after = net_state();
        assert_string_equal(before, after);
        net_run(cases[i].undo);
    }
    /* The halves by which a VPN goes before the default route are no conflict. */
    net_run("ip route add 0.0.0.0/1 dev up0");
    open_net(&w);
    close_net(&w);
    world_done(&w);
}

static void subnets_of_others_addresses_are_refused(void **state)
{
    static const struct host_subnet wrong[] = {
        {.ipv4 = 0x08080000, .ipv4_bits = 16, .ipv6 = {0xfd}},
        {.ipv4 = 0x0AC90000, .ipv4_bits = 25, .ipv6 = {0xfd}},
        {.ipv4 = 0x0AC90000, .ipv4_bits = 8, .ipv6 = {0xfd}},
        {.ipv4 = 0x0AC90000, .ipv4_bits = 16, .ipv6 = {0xfc}},
    };
    struct err err;
    WORLD(w, false)

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(host_net_open(w.host, &wrong[i], &w.mtu, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    world_done(&w);
}

static void a_second_daemon_is_told_who_has_the_network(void **state)
{
    _cleanup_free_ char *who = x_asprintf("process %d of user 0", getpid());
    struct host *second;
    struct err err;
    WORLD(w, true)

    second = new_host(&w);
    open_net(&w);
    assert_int_equal(host_net_open(second, &subnet, &w.mtu, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.message, who));
    assert_int_equal(host_net_close(second, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    close_net(&w);
    must(host_net_open(second, &subnet, &w.mtu, &err), &err);
    must(host_net_close(second, &err), &err);
    host_free(second);
    world_done(&w);
}

static int open_without_rights(void *arg)
{
    struct world *w = arg;
    struct err err;
    unsigned mtu;

    return host_net_open(w->host, &subnet, &mtu, &err) < 0 && err.code == ERR_UNSUPPORTED &&
                   err.hint[0]
               ? 0
               : 1;
}

static void without_rights_there_is_no_network(void **state)
{
    WORLD(w, false)

    assert_int_equal(test_child(open_without_rights, &w, true), 0);
    world_done(&w);
}

static void nothing_is_done_while_it_is_not_open(void **state)
{
    struct host_nic n = nic(0, 5, false);
    _cleanup_free_ unsigned *taps = NULL;
    unsigned mtu, tap = 0;
    struct err err;
    size_t count;
    int fd;
    WORLD(w, false)

    assert_int_equal(host_net_refresh(w.host, &mtu, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(host_tap_open(w.host, 0, &fd, &err), -1);
    assert_int_equal(host_tap_delete(w.host, &tap, 1, &err), -1);
    assert_int_equal(host_tap_list(w.host, &taps, &count, &err), -1);
    assert_int_equal(host_nic_attach(w.host, &n, &err), -1);
    assert_int_equal(host_nic_detach(w.host, &n, &err), -1);
    world_done(&w);
}

/* Uplinks -------------------------------------------------------------------------------------- */

static void assert_switch(const char *path, const char *expected)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[16] = "";

    assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
    (void)close(fd);
    assert_string_equal(text, expected);
}

static void an_uplink_that_is_none_any_more_is_set_back(void **state)
{
    static const char up0[] = "/proc/sys/net/ipv4/conf/up0/forwarding";
    static const char up1[] = "/proc/sys/net/ipv4/conf/up1/forwarding";
    _cleanup_free_ char *before = NULL, *after = NULL, *sets = NULL;
    struct err err;
    WORLD(w, true)

    net_run("ip link add up1 mtu 1300 type veth peer name up1-peer");
    net_run("ip link set up1 up");
    before = net_state();
    open_net(&w);
    assert_int_equal(w.mtu, 1500);
    assert_switch(up0, "1\n");
    assert_switch(up1, "0\n");
    net_run("ip route replace default dev up1");
    net_run("ip -6 route del default");
    must(host_net_refresh(w.host, &w.mtu, &err), &err);
    assert_int_equal(w.mtu, 1300);
    assert_switch(up0, "0\n");
    assert_switch(up1, "1\n");
    sets = net_output("nft list set inet banger uplinks");
    assert_non_null(strstr(sets, "\"up1\""));
    assert_null(strstr(sets, "\"up0\""));
    net_run("ip route replace default via 192.0.2.2 dev up0");
    net_run("ip route add default via 2001:db8::2");
    close_net(&w);
    after = net_state();
    assert_string_equal(before, after);
    world_done(&w);
}

static void a_record_that_somebody_wrote_is_not_believed(void **state)
{
    WORLD(w, true)

    scratch_write(&w.scratch, "network.sysctls",
                  "net/ipv4/conf/up0/forwarding 0\n"
                  "net/ipv4/ip_forward 1\n"
                  "net/ipv4/conf/all/forwarding 1\n"
                  "net/ipv4/conf/../../ip_forward 1\n"
                  "net/ipv4/conf/up0/../all/forwarding 1\n"
                  "net/ipv4/conf/lo/forwarding 3\n"
                  "net/ipv6/conf/up0/accept_redirects 0\n"
                  "net/ipv6/conf/lo/forwarding x\nkernel/core_pattern 1\n\n \n");
    net_run("sysctl -q -w net.ipv4.conf.up0.forwarding=1");
    open_net(&w);
    close_net(&w);
    assert_switch("/proc/sys/net/ipv4/conf/up0/forwarding", "0\n");
    assert_switch("/proc/sys/net/ipv4/ip_forward", "0\n");
    assert_switch("/proc/sys/net/ipv4/conf/lo/forwarding", "0\n");
    world_done(&w);
}

/* TAPs ----------------------------------------------------------------------------------------- */

static void taps_are_made_listed_opened_again_and_deleted(void **state)
{
    static const unsigned several[] = {2, 7, 9, 11};
    _cleanup_free_ char *link = NULL;
    struct err err;
    int fd, second;
    WORLD(w, false)

    open_net(&w);
    assert_int_equal(w.mtu, 1500);
    assert_taps(&w, "");
    fd = open_tap(&w, 7);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    (void)close(open_tap(&w, 2));
    (void)close(open_tap(&w, 11));
    assert_taps(&w, "2 7 11 ");
    link = net_output("ip -d addr show dev bgr-7");
    assert_non_null(strstr(link, "alias banger"));
    assert_non_null(strstr(link, HOST_TAP_MAC));
    assert_non_null(strstr(link, "persist on"));
    assert_non_null(strstr(link, "user root"));
    assert_non_null(strstr(link, "inet6 fe80::1/64"));
    assert_null(strstr(link, "inet 10"));
    assert_int_equal(host_tap_open(w.host, 7, &second, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    (void)close(fd);
    fd = open_tap(&w, 7);
    must(host_tap_delete(w.host, several, ARRAY_LEN(several), &err), &err);
    assert_taps(&w, "");
    (void)close(fd);
    (void)close(open_tap(&w, 2));
    must(host_tap_delete(w.host, several, 1, &err), &err);
    must(host_tap_delete(w.host, several, 1, &err), &err);
    assert_taps(&w, "");
    close_net(&w);
    world_done(&w);
}

static void a_tap_that_is_opened_again_has_nothing_of_who_had_it(void **state)
{
    _cleanup_free_ char *routes = NULL, *neighbours = NULL, *rules = NULL;
    WORLD(w, false)

    open_net(&w);
    (void)close(open_tap(&w, 1));
    attach(&w, 1, 5, true);
    (void)close(open_tap(&w, 1));
    routes = net_output("ip route show dev bgr-1");
    neighbours = net_output("ip neigh show dev bgr-1");
    rules = net_output("nft list ruleset");
    assert_string_equal(routes, "");
    assert_string_equal(neighbours, "");
    assert_null(strstr(rules, "bgr-1\""));
    close_net(&w);
    world_done(&w);
}

static void interfaces_of_others_are_left_alone(void **state)
{
    static const unsigned taps[] = {1, 2, 3};
    struct host_nic n = nic(1, 5, false);
    struct err err;
    int fd;
    WORLD(w, false)

    net_run("ip link add bgr-1 type veth peer name x1");
    net_run("ip tuntap add dev bgr-2 mode tap");
    net_run("ip link set bgr-2 alias banger");
    net_run("ip tuntap add dev bgr-3 mode tap");
    net_run("ip link set bgr-3 group 1651663360");
    open_net(&w);
    assert_taps(&w, "");
    for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
        assert_int_equal(host_tap_open(w.host, taps[i], &fd, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
    }
    assert_int_equal(host_nic_attach(w.host, &n, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    must(host_tap_delete(w.host, taps, ARRAY_LEN(taps), &err), &err);
    close_net(&w);
    net_run("ip link del bgr-1");
    net_run("ip link del bgr-2");
    net_run("ip link del bgr-3");
    world_done(&w);
}

/* Guests --------------------------------------------------------------------------------------- */

static void a_guest_reaches_beyond_the_host_as_the_host(void **state)
{
    struct frame f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "hello");
    int fd, far, far6;
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    attach(&w, 1, 5, true);
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    far6 = net_socket(true, SOCK_DGRAM, OUTSIDE6, ECHO_PORT);
    tap_send(fd, &f);
    socket_expect(far, "hello", "192.0.2.1", "world");
    tap_expect(fd, "udp " OUTSIDE " > " GUEST_A " 4000: world");
    f = frame_udp(GUEST_A6, OUTSIDE6, ECHO_PORT, "hello6");
    tap_send(fd, &f);
    socket_expect(far6, "hello6", "2001:db8::1", "world6");
    tap_expect(fd, "udp " OUTSIDE6 " > " GUEST_A6 " 4000: world6");
    (void)close(fd);
    (void)close(far);
    (void)close(far6);
    close_net(&w);
    world_done(&w);
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
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    second = open_tap(&w, 2);
    attach(&w, 1, 5, true);
    attach(&w, 2, 6, true);
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
    close_net(&w);
    world_done(&w);
}

static void what_a_guest_must_not_reach_is_refused_at_once(void **state)
{
    static const char *const refused[] = {"169.254.169.254", "192.0.2.1", "224.0.0.5", GUEST_B};
    static const char *const refused6[] = {"2001:db8::1", "fd00:ec2::254", "fd00:201::6"};
    struct frame f;
    int fd, second, dns, any, listener, host;
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    second = open_tap(&w, 2);
    attach(&w, 1, 5, true);
    attach(&w, 2, 6, true);
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
    close_net(&w);
    world_done(&w);
}

static void the_gateway_answers_dns_and_echo_and_who_it_is(void **state)
{
    _cleanup_free_ char *before = NULL, *after = NULL;
    struct frame f;
    int fd, dns, dns6, listener;
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    attach(&w, 1, 5, false);
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
    close_net(&w);
    world_done(&w);
}

static void a_change_of_nat_counts_for_what_is_open_too(void **state)
{
    struct frame f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "one");
    int fd, far, host;
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    attach(&w, 1, 5, true);
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    host = net_socket(false, SOCK_DGRAM, "0.0.0.0", 0);
    socket_send(host, GUEST_A, GUEST_PORT, "in"); /* of the host: is let be */
    tap_expect(fd, "udp " GATEWAY " > " GUEST_A " 4000: in");
    tap_send(fd, &f);
    socket_expect(far, "one", "192.0.2.1", "back");
    tap_expect(fd, "udp " OUTSIDE " > " GUEST_A " 4000: back");
    attach(&w, 1, 5, false);
    tap_send(fd, &f);
    tap_expect(fd, "icmp " GATEWAY " > " GUEST_A " 3/13");
    attach(&w, 1, 5, true);
    tap_send(fd, &f);
    socket_expect(far, "one", "192.0.2.1", NULL);
    (void)close(fd);
    (void)close(far);
    (void)close(host);
    close_net(&w);
    world_done(&w);
}

static void a_guest_that_is_detached_is_forgotten(void **state)
{
    _cleanup_free_ char *before = NULL, *after = NULL;
    struct frame f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "one");
    struct frame f6 = frame_udp(GUEST_A6, OUTSIDE6, ECHO_PORT, "one");
    struct sockaddr_in back;
    socklen_t len = sizeof(back);
    char text[16];
    int fd, far, far6, host;
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    before = net_state();
    attach(&w, 1, 5, true);
    far = net_socket(true, SOCK_DGRAM, OUTSIDE, ECHO_PORT);
    far6 = net_socket(true, SOCK_DGRAM, OUTSIDE6, ECHO_PORT);
    host = net_socket(false, SOCK_DGRAM, "0.0.0.0", 0);
    socket_send(host, GUEST_A, 9, "in");
    tap_expect(fd, "udp " GATEWAY " > " GUEST_A " 9: in");
    tap_send(fd, &f);
    assert_int_equal(cancel_wait_fd(NULL, far, POLLIN, test_deadline()), 0);
    assert_int_equal(recvfrom(far, text, sizeof(text), 0, (struct sockaddr *)&back, &len), 3);
    tap_send(fd, &f6);
    socket_expect(far6, "one", "2001:db8::1", NULL);
    detach(&w, 1, 5);
    detach(&w, 1, 5);
    assert_switch("/proc/sys/net/netfilter/nf_conntrack_count", "0\n");
    tap_send(fd, &f);
    /* Whoever has its place next gets none of its answers. */
    attach(&w, 1, 5, true);
    assert_int_equal(sendto(far, "late", 4, 0, (struct sockaddr *)&back, len), 4);
    tap_send(fd, &f6);
    socket_expect(far6, "one", "2001:db8::1", "now");
    tap_expect(fd, "udp " OUTSIDE6 " > " GUEST_A6 " 4000: now");
    detach(&w, 1, 5);
    (void)close(fd);
    fd = open_tap(&w, 1);
    after = net_state();
    assert_non_null(strstr(after, "bgr-1"));
    assert_null(strstr(after, "\"bgr-1\" ."));
    assert_null(strstr(after, GUEST_A " dev"));
    (void)close(fd);
    (void)close(far);
    (void)close(far6);
    (void)close(host);
    close_net(&w);
    world_done(&w);
}

static void another_guest_in_its_place_takes_it_over(void **state)
{
    struct frame f = frame_udp(GUEST_A, OUTSIDE, ECHO_PORT, "old");
    _cleanup_free_ char *routes = NULL;
    int fd, far;
    WORLD(w, true)

    open_net(&w);
    fd = open_tap(&w, 1);
    attach(&w, 1, 5, true);
    attach(&w, 1, 6, true);
    detach(&w, 1, 5); /* was not attached any more */
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
    close_net(&w);
    world_done(&w);
}

static void guests_of_other_addresses_are_refused(void **state)
{
    struct host_nic wrong[6];
    struct err err;
    WORLD(w, false)

    open_net(&w);
    (void)close(open_tap(&w, 1));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        wrong[i] = nic(1, 5, false);
    }
    wrong[0].ipv4 = subnet.ipv4 | 1;
    wrong[1].ipv4 = subnet.ipv4;
    wrong[2].ipv4 = subnet.ipv4 | 0xffff;
    wrong[3].ipv4 = 0x0ACA0005;
    wrong[4].ipv6[15] = 1;
    wrong[5].ipv6[3] = 2;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(host_nic_attach(w.host, &wrong[i], &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_int_equal(host_nic_detach(w.host, &wrong[i], &err), -1);
    }
    close_net(&w);
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_leaves_all_as_it_was),
        cmocka_unit_test(a_helper_that_was_killed_is_cleaned_up_after),
        cmocka_unit_test(a_next_helper_takes_over_and_guests_are_attached_again),
        cmocka_unit_test(another_subnet_takes_the_place_of_one_that_was_left),
        cmocka_unit_test(a_subnet_that_is_somebodys_is_refused_with_whose_it_is),
        cmocka_unit_test(subnets_of_others_addresses_are_refused),
        cmocka_unit_test(a_second_daemon_is_told_who_has_the_network),
        cmocka_unit_test(without_rights_there_is_no_network),
        cmocka_unit_test(nothing_is_done_while_it_is_not_open),
        cmocka_unit_test(an_uplink_that_is_none_any_more_is_set_back),
        cmocka_unit_test(a_record_that_somebody_wrote_is_not_believed),
        cmocka_unit_test(taps_are_made_listed_opened_again_and_deleted),
        cmocka_unit_test(a_tap_that_is_opened_again_has_nothing_of_who_had_it),
        cmocka_unit_test(interfaces_of_others_are_left_alone),
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
