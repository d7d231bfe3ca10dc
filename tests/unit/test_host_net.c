/* host/net*.c with the kernel's network, in namespaces of the tests' own, and sys/netlink.h and its
 * like by them: what is shared, and TAPs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/spawn.h"
#include "base/str.h"
#include "net_site.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Open and close ------------------------------------------------------------------------------- */

static void close_leaves_all_as_it_was(void **state)
{
    _cleanup_free_ char *before = NULL, *during = NULL, *after = NULL;
    SITE(w, true)

    net_run("ip link set up0 mtu 1400");
    before = net_state();
    site_open(&w);
    assert_int_equal(w.mtu, 1400);
    (void)close(site_tap(&w, 3));
    (void)close(site_tap(&w, 16383));
    site_attach(&w, 3, 5, true);
    during = net_state();
    assert_string_not_equal(before, during);
    site_close(&w);
    after = net_state();
    assert_string_equal(before, after);
    assert_int_equal(faccessat(w.scratch.fd, "network.sysctls", F_OK, 0), -1);
    site_close(&w); /* nothing is there, and that is fine */
    site_done(&w);
}

static void a_helper_that_was_killed_is_cleaned_up_after(void **state)
{
    _cleanup_free_ char *before = NULL, *after = NULL;
    SITE(w, true)

    before = net_state();
    site_open(&w);
    (void)close(site_tap(&w, 1));
    site_attach(&w, 1, 5, true);
    host_free(w.host); /* which leaves everything */
    assert_int_equal(faccessat(w.scratch.fd, "network.sysctls", F_OK, 0), 0);
    w.host = site_host(&w);
    site_close(&w);
    after = net_state();
    assert_string_equal(before, after);
    site_done(&w);
}

/* Packets go on, and the rules know nobody who is not there any more. */
static void a_next_helper_takes_over_and_guests_stay_attached(void **state)
{
    struct frame f = frame_udp(GUEST_A, GATEWAY, 53, "goes on");
    _cleanup_free_ char *rules = NULL, *after = NULL;
    int fd, other, dns;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    site_attach(&w, 1, 5, true);
    other = site_tap(&w, 2);
    site_attach(&w, 2, 6, true);
    dns = net_socket(false, SOCK_DGRAM, GATEWAY, 53);
    host_free(w.host);
    (void)close(other);
    free(net_output("ip link del " HOST_TAP_PREFIX "2"));
    w.host = site_host(&w);
    site_open(&w);
    site_open(&w);
    assert_taps(&w, "1 ");
    tap_send(fd, &f);
    socket_expect(dns, "goes on", GUEST_A, NULL);
    rules = net_output("nft list ruleset");
    assert_non_null(strstr(rules, "\"" HOST_TAP_PREFIX "1\""));
    assert_null(strstr(rules, "\"" HOST_TAP_PREFIX "2\""));
    /* It is as if this one had attached it. */
    site_attach(&w, 1, 5, true);
    f = frame_udp(GUEST_A, GATEWAY, 53, "attached");
    tap_send(fd, &f);
    socket_expect(dns, "attached", GUEST_A, NULL);
    (void)close(fd);
    host_free(w.host);
    w.host = site_host(&w);
    site_open(&w);
    (void)close(site_tap(&w, 1));
    after = net_output("nft list ruleset");
    assert_null(strstr(after, "\"" HOST_TAP_PREFIX "1\""));
    (void)close(dns);
    site_close(&w);
    site_done(&w);
}

static void another_subnet_takes_the_place_of_one_that_was_left(void **state)
{
    struct host_subnet other = {.ipv4 = 0x0AC91000, .ipv4_bits = 20, .ipv6 = {0xfd, 1}};
    _cleanup_free_ char *addresses = NULL;
    struct err err;
    SITE(w, true)

    site_open(&w);
    host_free(w.host);
    w.host = site_host(&w);
    must(host_net_open(w.host, &other, &w.mtu, &err), &err);
    addresses = net_output("ip addr show dev lo");
    assert_null(strstr(addresses, GATEWAY "/"));
    assert_null(strstr(addresses, GATEWAY6 "/"));
    assert_non_null(strstr(addresses, "10.201.16.1/32"));
    assert_int_equal(host_net_open(w.host, &site_subnet, &w.mtu, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    site_close(&w);
    site_done(&w);
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
    SITE(w, true)

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_free_ char *before = NULL, *after = NULL;

        net_run(cases[i].set_up);
        before = net_state();
        assert_int_equal(host_net_open(w.host, &site_subnet, &w.mtu, &err), -1);
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
    site_open(&w);
    site_close(&w);
    site_done(&w);
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
    SITE(w, false)

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(host_net_open(w.host, &wrong[i], &w.mtu, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    site_done(&w);
}

static void a_second_daemon_is_told_who_has_the_network(void **state)
{
    _cleanup_free_ char *who = x_asprintf("process %d of user 0", getpid());
    struct host *second;
    struct err err;
    SITE(w, true)

    second = site_host(&w);
    site_open(&w);
    assert_int_equal(host_net_open(second, &site_subnet, &w.mtu, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.message, who));
    assert_int_equal(host_net_close(second, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    site_close(&w);
    must(host_net_open(second, &site_subnet, &w.mtu, &err), &err);
    must(host_net_close(second, &err), &err);
    host_free(second);
    site_done(&w);
}

/* Dead or not, it comes back for them. */
static void vms_of_another_daemon_keep_the_network(void **state)
{
    _cleanup_scratch_ struct scratch elsewhere = scratch_new();
    _cleanup_free_ char *before = NULL, *after = NULL;
    struct host *other;
    struct err err;
    int fd;
    SITE(w, true)

    site_open(&w);
    fd = site_tap(&w, 1);
    site_attach(&w, 1, 5, true);
    host_free(w.host);
    before = net_state();
    other = host_local_new(&(struct host_local_params){
        .launcher = "/none", .name = elsewhere.path, .cgroup_root = elsewhere.path});
    assert_int_equal(host_net_open(other, &site_subnet, &w.mtu, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.message, "'" HOST_TAP_PREFIX "1' is of"));
    assert_non_null(strstr(err.message, w.scratch.path));
    assert_non_null(strstr(err.hint, "ip link delete " HOST_TAP_PREFIX "1"));
    assert_int_equal(host_net_close(other, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    after = net_state();
    assert_string_equal(before, after);
    w.host = site_host(&w);
    site_open(&w);
    assert_taps(&w, "1 ");
    (void)close(fd);
    site_close(&w);
    /* Nobody has any now. */
    must(host_net_open(other, &site_subnet, &w.mtu, &err), &err);
    must(host_net_close(other, &err), &err);
    host_free(other);
    site_done(&w);
}

static int open_without_rights(void *arg)
{
    struct site *w = arg;
    struct err err;
    unsigned mtu;

    return host_net_open(w->host, &site_subnet, &mtu, &err) < 0 && err.code == ERR_UNSUPPORTED &&
                   err.hint[0]
               ? 0
               : 1;
}

static void without_rights_there_is_no_network(void **state)
{
    SITE(w, false)

    assert_int_equal(test_child(open_without_rights, &w, true), 0);
    site_done(&w);
}

static void nothing_is_done_while_it_is_not_open(void **state)
{
    struct host_nic n = site_nic(0, 5, false);
    _cleanup_free_ unsigned *taps = NULL;
    unsigned mtu, tap = 0;
    struct err err;
    size_t count;
    int fd;
    SITE(w, false)

    assert_int_equal(host_net_refresh(w.host, &mtu, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(host_tap_open(w.host, 0, &fd, &err), -1);
    assert_int_equal(host_tap_delete(w.host, &tap, 1, &err), -1);
    assert_int_equal(host_tap_list(w.host, &taps, &count, &err), -1);
    assert_int_equal(host_nic_attach(w.host, &n, &err), -1);
    assert_int_equal(host_nic_detach(w.host, &n, &err), -1);
    site_done(&w);
}

/* Uplinks -------------------------------------------------------------------------------------- */

static void an_uplink_that_is_none_any_more_is_set_back(void **state)
{
    static const char up0[] = "/proc/sys/net/ipv4/conf/up0/forwarding";
    static const char up1[] = "/proc/sys/net/ipv4/conf/up1/forwarding";
    _cleanup_free_ char *before = NULL, *after = NULL, *sets = NULL;
    struct err err;
    SITE(w, true)

    net_run("ip link add up1 mtu 1300 type veth peer name up1-peer");
    net_run("ip link set up1 up");
    before = net_state();
    site_open(&w);
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
    site_close(&w);
    after = net_state();
    assert_string_equal(before, after);
    site_done(&w);
}

static void a_record_that_somebody_wrote_is_not_believed(void **state)
{
    SITE(w, true)

    scratch_write(&w.scratch, "network.sysctls",
                  "net/ipv4/conf/up0/forwarding 0\n"
                  "net/ipv4/ip_forward 1\n"
                  "net/ipv4/conf/all/forwarding 1\n"
                  "net/ipv4/conf/../../ip_forward 1\n"
                  "net/ipv4/conf/up0/../all/forwarding 1\n"
                  "net/ipv4/conf/lo/forwarding 3\n"
                  "net/ipv6/conf/up0/accept_redirects 0\n"
                  "net/ipv6/conf/lo/forwarding x\nkernel/core_pattern 1\n\n \n");
    net_switch("/proc/sys/net/ipv4/conf/up0/forwarding", "1");
    site_open(&w);
    site_close(&w);
    assert_switch("/proc/sys/net/ipv4/conf/up0/forwarding", "0\n");
    assert_switch("/proc/sys/net/ipv4/ip_forward", "0\n");
    assert_switch("/proc/sys/net/ipv4/conf/lo/forwarding", "0\n");
    site_done(&w);
}

/* TAPs ----------------------------------------------------------------------------------------- */

static void taps_are_made_listed_opened_again_and_deleted(void **state)
{
    static const unsigned several[] = {2, 7, 9, 11};
    _cleanup_free_ char *link = NULL;
    struct err err;
    int fd, second;
    SITE(w, false)

    site_open(&w);
    assert_int_equal(w.mtu, 1500);
    assert_taps(&w, "");
    fd = site_tap(&w, 7);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    (void)close(site_tap(&w, 2));
    (void)close(site_tap(&w, 11));
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
    fd = site_tap(&w, 7);
    must(host_tap_delete(w.host, several, ARRAY_LEN(several), &err), &err);
    assert_taps(&w, "");
    (void)close(fd);
    (void)close(site_tap(&w, 2));
    must(host_tap_delete(w.host, several, 1, &err), &err);
    must(host_tap_delete(w.host, several, 1, &err), &err);
    assert_taps(&w, "");
    site_close(&w);
    site_done(&w);
}

static void a_tap_that_is_opened_again_has_nothing_of_who_had_it(void **state)
{
    _cleanup_free_ char *routes = NULL, *neighbours = NULL, *rules = NULL;
    SITE(w, false)

    site_open(&w);
    (void)close(site_tap(&w, 1));
    site_attach(&w, 1, 5, true);
    (void)close(site_tap(&w, 1));
    routes = net_output("ip route show dev bgr-1");
    neighbours = net_output("ip neigh show dev bgr-1");
    rules = net_output("nft list ruleset");
    assert_string_equal(routes, "");
    assert_string_equal(neighbours, "");
    assert_null(strstr(rules, "bgr-1\""));
    site_close(&w);
    site_done(&w);
}

static void interfaces_of_others_are_left_alone(void **state)
{
    static const unsigned taps[] = {1, 2, 3};
    struct host_nic n = site_nic(1, 5, false);
    struct err err;
    int fd;
    SITE(w, false)

    net_run("ip link add bgr-1 type veth peer name x1");
    net_run("ip tuntap add dev bgr-2 mode tap");
    net_run("ip link set bgr-2 alias banger");
    net_run("ip tuntap add dev bgr-3 mode tap");
    net_run("ip link set bgr-3 group 1651663360");
    site_open(&w);
    assert_taps(&w, "");
    for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
        assert_int_equal(host_tap_open(w.host, taps[i], &fd, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
    }
    assert_int_equal(host_nic_attach(w.host, &n, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    must(host_tap_delete(w.host, taps, ARRAY_LEN(taps), &err), &err);
    site_close(&w);
    net_run("ip link del bgr-1");
    net_run("ip link del bgr-2");
    net_run("ip link del bgr-3");
    site_done(&w);
}

/* The real helper, with the rights that it keeps, of a daemon that is not root's -----------------
 */

#define OWNER 65534

/* In front of which this test lies. */
static char *helper_path(void)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    self[n > 0 ? n : 0] = '\0';
    return x_asprintf("%s/banger-helper", dirname(self));
}

static void start_helper(struct site *w, pid_t *ret_pid)
{
    _cleanup_free_ char *path = helper_path(), *owner = x_asprintf("%u", OWNER);
    const char *const argv[] = {path, owner, w->scratch.path, "200000", "1000", NULL};
    _cleanup_close_ int pidfd = -1;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(
        spawn_process(&(struct spawn_params){.argv = argv,
                                             .fds = (const struct spawn_fd[]){{2, 2}, {ends[1], 3}},
                                             .fd_count = 2},
                      ret_pid, &pidfd),
        0);
    (void)close(ends[1]);
    host_free(w->host);
    w->host = host_proxy_new(ends[0]);
}

static void end_helper(struct site *w, pid_t pid)
{
    host_free(STEAL_PTR(w->host));
    assert_int_equal(spawn_reap(pid), 0);
}

static void the_real_helper_has_the_rights_it_takes(void **state)
{
    _cleanup_free_ char *before = NULL, *after = NULL;
    struct frame f = frame_udp(GUEST_A, GATEWAY, 53, "query");
    struct stat st;
    int fd, dns;
    pid_t pid;
    SITE(w, true)

    assert_int_equal(fchown(w.scratch.fd, OWNER, OWNER), 0); /* mode 0700 */
    before = net_state();
    start_helper(&w, &pid);
    site_open(&w);
    assert_int_equal(fstatat(w.scratch.fd, "network.sysctls", &st, 0), 0);
    assert_int_equal(st.st_uid, OWNER);
    assert_int_equal(st.st_mode & 07777, 0600);
    fd = site_tap(&w, 1);
    site_attach(&w, 1, 5, true);
    dns = net_socket(false, SOCK_DGRAM, GATEWAY, 53);
    tap_send(fd, &f);
    socket_expect(dns, "query", GUEST_A, "reply");
    tap_expect(fd, "udp " GATEWAY " > " GUEST_A " 4000: reply");
    assert_taps(&w, "1 ");
    (void)close(fd);
    (void)close(dns);
    site_detach(&w, 1, 5);
    end_helper(&w, pid);
    start_helper(&w, &pid); /* the next daemon's */
    site_close(&w);
    after = net_state();
    assert_string_equal(before, after);
    end_helper(&w, pid);
    site_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_leaves_all_as_it_was),
        cmocka_unit_test(a_helper_that_was_killed_is_cleaned_up_after),
        cmocka_unit_test(a_next_helper_takes_over_and_guests_stay_attached),
        cmocka_unit_test(another_subnet_takes_the_place_of_one_that_was_left),
        cmocka_unit_test(a_subnet_that_is_somebodys_is_refused_with_whose_it_is),
        cmocka_unit_test(subnets_of_others_addresses_are_refused),
        cmocka_unit_test(a_second_daemon_is_told_who_has_the_network),
        cmocka_unit_test(vms_of_another_daemon_keep_the_network),
        cmocka_unit_test(without_rights_there_is_no_network),
        cmocka_unit_test(nothing_is_done_while_it_is_not_open),
        cmocka_unit_test(an_uplink_that_is_none_any_more_is_set_back),
        cmocka_unit_test(a_record_that_somebody_wrote_is_not_believed),
        cmocka_unit_test(taps_are_made_listed_opened_again_and_deleted),
        cmocka_unit_test(a_tap_that_is_opened_again_has_nothing_of_who_had_it),
        cmocka_unit_test(interfaces_of_others_are_left_alone),
        cmocka_unit_test(the_real_helper_has_the_rights_it_takes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
