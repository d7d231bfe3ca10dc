/*
 * What the agent does with a guest's card, in a network namespace of its own, where a TAP is the
 * card; and which networks and resolvers it takes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/network.h"
#include "agent/resolver.h"
#include "base/buf.h"
#include "base/str.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define WORDS_MAX 20
#define TEXT_MAX 65536
#define ACCEPT_RA "/proc/sys/net/ipv6/conf/eth0/accept_ra"

static const struct frame_network first = {.ipv4 = {10, 201, 1, 7},
                                           .gateway4 = {10, 201, 0, 1},
                                           .ipv6 = {0xfd, 0, 2, 1, [14] = 1, 7},
                                           .mac = {2, 0xba, 0x17, 0, 0, 2},
                                           .gateway_mac = {2, 0xba, 0x17, 0, 0, 1},
                                           .mtu = 1400};
static const uint8_t no_gateway[4];

/* A namespace ------------------------------------------------------------------------------------
 */

struct fixture {
    int before_fd; /* the namespace that the test came from */
    int cards[2];
};

/* Down, as a guest's is before anybody has done anything. */
static int make_tap(const char *name, uint8_t last_of_mac)
{
    struct ifreq tap = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    memcpy(tap.ifr_name, name, strlen(name) + 1);
    assert_int_equal(ioctl(fd, TUNSETIFF, &tap), 0);
    tap.ifr_hwaddr = (struct sockaddr){.sa_family = ARPHRD_ETHER};
    memcpy(tap.ifr_hwaddr.sa_data, first.mac, 5);
    tap.ifr_hwaddr.sa_data[5] = (char)last_of_mac;
    assert_int_equal(ioctl(fd, SIOCSIFHWADDR, &tap), 0);
    return fd;
}

static int setup(void **state)
{
    struct fixture *f = x_calloc(1, sizeof(*f));

    f->before_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    f->cards[0] = f->cards[1] = -1;
    *state = f;
    if (unshare(CLONE_NEWNET) == 0) {
        /* Another one, with a lower number. */
        f->cards[1] = make_tap("other", 9);
        f->cards[0] = f->cards[1] < 0 ? f->cards[1] : make_tap("eth0", 2);
    }
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_p(&f->cards[0]);
    close_p(&f->cards[1]);
    assert_true(setns(f->before_fd, CLONE_NEWNET) == 0 || errno == EPERM);
    close_p(&f->before_fd);
    free(f);
    return 0;
}

/* What ip(8) prints; free it. NULL: there is no such program. */
static char *ip_try(const char *arguments)
{
    _cleanup_free_ char *copy = x_strdup(arguments);
    char *argv[WORDS_MAX + 2] = {(char *)"ip"}, *rest = copy;
    struct buf text;
    int fds[2], status;
    pid_t pid;

    for (size_t i = 1; i <= WORDS_MAX && rest; i++) {
        argv[i] = strsep(&rest, " ");
    }
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)execvp("ip", argv);
        _exit(127);
    }
    (void)close(fds[1]);
    buf_init(&text, TEXT_MAX);
    while (buf_read_fd(&text, fds[0], 4096) > 0) {
    }
    (void)close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 127) {
        fail_msg("ip %s: status %d", arguments, WEXITSTATUS(status));
    }
    if (WEXITSTATUS(status) == 127) {
        buf_done(&text);
        return NULL;
    }
    return buf_steal_str(&text);
}

static char *ip(const char *arguments)
{
    char *text = ip_try(arguments);

    assert_non_null(text);
    return text;
}

static void run_ip(const char *arguments)
{
    free(ip(arguments));
}

static void skip_without_namespace(const struct fixture *f)
{
    _cleanup_free_ char *version = f->cards[0] < 0 ? NULL : ip_try("-V");

    if (!version) {
        print_message("needs root, /dev/net/tun and ip(8)\n");
        skip();
    }
}

static void assert_says(const char *arguments, const char *text)
{
    _cleanup_free_ char *said = ip(arguments);

    if (!strstr(said, text)) {
        fail_msg("ip %s: no '%s' in:\n%s", arguments, text, said);
    }
}

static void assert_silent(const char *arguments)
{
    _cleanup_free_ char *said = ip(arguments);

    assert_string_equal(said, "");
}

static void set_sysctl(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, value, strlen(value)), (ssize_t)strlen(value));
    (void)close(fd);
}

static char get_sysctl(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char value = 0;

    assert_true(fd >= 0);
    assert_int_equal(read(fd, &value, 1), 1);
    (void)close(fd);
    return value;
}

/* The card ---------------------------------------------------------------------------------------
 */

static void set(const struct frame_network *wanted, const uint8_t old_gateway4[4])
{
    struct frame_network now, told = *wanted;
    const char *step = "";
    int r = network_set(wanted, old_gateway4, &now, &step);

    if (r < 0) {
        fail_msg("%s: %s", step, strerror(-r));
    }
    /* These are nobody's to read back. */
    memset(told.gateway4, 0, sizeof(told.gateway4));
    memset(told.gateway_mac, 0, sizeof(told.gateway_mac));
    assert_memory_equal(&now, &told, sizeof(now));
}

/* All that ip(8) knows of the namespace; free it. */
static char *snapshot(void)
{
    _cleanup_free_ char *links = ip("-d -o link show"), *addresses = ip("-d -o addr show"),
                        *routes = ip("-d -4 route show table all"),
                        *routes6 = ip("-d -6 route show table all"), *neighbours = ip("neigh show");

    return x_asprintf("%s\n%s\n%s\n%s\n%s", links, addresses, routes, routes6, neighbours);
}

static void assert_first(void)
{
    assert_says("-o addr show dev eth0", "inet 10.201.1.7/32 scope global eth0");
    assert_says("-d -o addr show dev eth0", "inet6 fd00:201::107/128 scope global nodad");
    assert_silent("-o addr show dev eth0 scope link");
    assert_says("-d link show dev eth0", " mtu 1400 ");
    assert_says("-d link show dev eth0", ",UP");
    assert_says("-d link show dev eth0", "addrgenmode none");
    assert_says("-4 route show", "default via 10.201.0.1 dev eth0 proto static onlink");
    assert_says("-6 route show", "default via fe80::1 dev eth0 proto static metric 1024 onlink");
    assert_says("-4 neigh show", "10.201.0.1 dev eth0 lladdr 02:ba:17:00:00:01 PERMANENT");
    assert_says("-6 neigh show", "fe80::1 dev eth0 lladdr 02:ba:17:00:00:01 PERMANENT");
    assert_int_equal(get_sysctl(ACCEPT_RA), '0');
}

static void a_card_has_what_it_is_told_and_again_is_no_other(void **state)
{
    _cleanup_free_ char *before = NULL, *after = NULL;

    skip_without_namespace(*state);
    set(&first, no_gateway);
    assert_first();
    before = snapshot();
    for (int i = 0; i < 3; i++) {
        set(&first, i == 0 ? no_gateway : first.gateway4);
        free(STEAL_PTR(after));
        after = snapshot();
        assert_string_equal(after, before);
    }
    /* The other one is as it was. */
    assert_silent("-o addr show dev other");
    assert_says("link show dev other", "state DOWN");
    assert_says("link show dev other", " mtu 1500 ");
}

static void another_network_takes_the_place_of_the_first(void **state)
{
    struct frame_network second = first;
    _cleanup_free_ char *all = NULL;

    skip_without_namespace(*state);
    set(&first, no_gateway);
    second.ipv4[3] = second.ipv6[15] = 8;
    second.gateway4[1] = 202;
    second.gateway_mac[5] = 3;
    second.mtu = 1300;
    set(&second, first.gateway4);
    all = snapshot();
    for (size_t i = 0; i < 5; i++) {
        static const char *const gone[] = {"10.201.1.7", "fd00:201::107", "10.201.0.1", "mtu 1400",
                                           "02:ba:17:00:00:01"};

        if (strstr(all, gone[i])) {
            fail_msg("'%s' is still in:\n%s", gone[i], all);
        }
    }
    assert_says("-4 route show", "default via 10.202.0.1 dev eth0 proto static onlink");
    assert_says("neigh show", "fe80::1 dev eth0 lladdr 02:ba:17:00:00:03 PERMANENT");
    set(&first, second.gateway4);
    assert_first();
}

static void whatever_else_the_card_had_is_gone(void **state)
{
    _cleanup_free_ char *plain = NULL, *again = NULL;

    skip_without_namespace(*state);
    set(&first, no_gateway);
    plain = snapshot();
    run_ip("addr flush dev eth0");
    /* More than are removed at once; ours with other prefixes; one that has others behind it. */
    run_ip("addr add 10.201.1.7/24 dev eth0");
    run_ip("addr add 10.201.1.9/24 dev eth0");
    run_ip("addr add fd00:201::107/64 dev eth0");
    run_ip("addr add fe80::9/64 dev eth0");
    for (int i = 1; i <= 40; i++) {
        _cleanup_free_ char *add = x_asprintf("addr add 10.9.%d.1/24 dev eth0", i);

        run_ip(add);
    }
    run_ip("route replace default dev eth0");
    run_ip("link set dev eth0 mtu 1290 addrgenmode eui64");
    set_sysctl(ACCEPT_RA, "1");
    set(&first, no_gateway);
    assert_first();
    again = snapshot();
    assert_string_equal(again, plain);
}

static void a_card_that_wants_no_ipv6_has_none(void **state)
{
    struct frame_network now;
    const char *step = "";

    skip_without_namespace(*state);
    set_sysctl("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
    assert_int_equal(network_set(&first, no_gateway, &now, &step), 0);
    assert_memory_equal(now.ipv4, first.ipv4, 4);
    assert_memory_equal(now.ipv6, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_silent("-o -6 addr show dev eth0");
    assert_says("-4 route show", "default via 10.201.0.1 dev eth0 proto static onlink");
}

static void a_card_that_is_to_have_no_ipv6_has_none(void **state)
{
    struct frame_network wanted = first, now;
    const char *step = "";

    skip_without_namespace(*state);
    set(&first, no_gateway);
    memset(wanted.ipv6, 0, sizeof(wanted.ipv6));
    assert_int_equal(network_set(&wanted, no_gateway, &now, &step), 0);
    assert_memory_equal(now.ipv4, first.ipv4, 4);
    assert_memory_equal(now.ipv6, wanted.ipv6, 16);
    assert_silent("-o -6 addr show dev eth0");
}

static void a_step_that_fails_is_named(void **state)
{
    static const struct {
        struct frame_network network;
        const char *step;
        int error;
    } cases[] = {
        {{.mac = {2, 1}, .mtu = 1400}, "network: card", -ENODEV},
        {{.mac = {2, 0xba, 0x17, 0, 0, 2}, .mtu = 65535}, "network: link", -EINVAL},
        {{.mac = {2, 0xba, 0x17, 0, 0, 2},
          .mtu = 1400,
          .ipv4 = {10, 0, 0, 2},
          .gateway4 = {10, 0, 0, 2}},
         "network: route",
         -EINVAL},
        {{.mac = {2, 0xba, 0x17, 0, 0, 2},
          .mtu = 1400,
          .ipv4 = {10, 0, 0, 2},
          .gateway4 = {10, 0, 0, 1},
          .ipv6 = {0xff, 2, [15] = 1}},
         "network: IPv6 address",
         -EADDRNOTAVAIL},
    };

    skip_without_namespace(*state);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct frame_network now;
        const char *step = "";

        assert_int_equal(network_set(&cases[i].network, no_gateway, &now, &step), cases[i].error);
        assert_string_equal(step, cases[i].step);
    }
    set(&first, no_gateway); /* none of them is for ever */
    assert_first();
}

/* What is taken ----------------------------------------------------------------------------------
 */

static void a_network_is_checked_before_it_is_tried(void **state)
{
    static const struct {
        size_t offset;
        uint8_t byte;
        bool good;
    } cases[] = {
#define AT(member) offsetof(struct frame_network, member)
        {AT(ipv4), 0, false},
        {AT(ipv4), 127, false},
        {AT(ipv4), 224, false},
        {AT(ipv4), 255, false},
        {AT(ipv4), 192, true},
        {AT(gateway4), 0, false},
        {AT(gateway4), 239, false},
        {AT(gateway4), 11, true},
        {AT(ipv6), 0xff, false},
        {AT(ipv6), 0x20, true},
        {AT(mac), 3, false},
        {AT(gateway_mac), 1, false},
        {AT(gateway_mac) + 5, 2, false}, /* the card's */
        {AT(gateway_mac) + 5, 7, true},
    };
    struct frame_network n;

    (void)state;
    assert_true(network_valid(&first));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        n = first;
        ((uint8_t *)&n)[cases[i].offset] = cases[i].byte;
        assert_int_equal(network_valid(&n), cases[i].good);
    }
    n = first;
    memcpy(n.gateway4, n.ipv4, 4);
    assert_false(network_valid(&n));
    n = first;
    memset(n.ipv6, 0, 15); /* ::7 */
    assert_false(network_valid(&n));
    n.ipv6[15] = 0; /* none at all */
    assert_true(network_valid(&n));
    n.ipv6[0] = 0xfe;
    n.ipv6[1] = 0x80;
    assert_false(network_valid(&n));
    n = first;
    memset(n.gateway_mac, 0, 6);
    assert_false(network_valid(&n));
    n = first;
    n.mtu = 1279;
    assert_false(network_valid(&n));
    n.mtu = 65535;
    assert_true(network_valid(&n));
}

static bool add(struct resolvers *r, const char *text)
{
    return resolvers_add(r, (const uint8_t *)text, strlen(text));
}

static void resolvers_are_addresses_and_three_at_most(void **state)
{
    static const char *const bad[] = {"",
                                      "1.2.3",
                                      "1.2.3.4 ",
                                      "host",
                                      "::1%lo",
                                      "1.2.3.4\nsearch x",
                                      "1111:2222:3333:4444:5555:6666:123.123.123.1234"};
    struct resolvers r = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(add(&r, bad[i]));
    }
    assert_false(resolvers_add(&r, (const uint8_t *)"1.2.3.4", 8));
    assert_int_equal(r.count, 0);
    assert_true(add(&r, "10.201.0.1"));
    assert_true(add(&r, "fd00:201::1"));
    assert_true(add(&r, "1111:2222:3333:4444:5555:6666:123.123.123.123"));
    assert_false(add(&r, "10.201.0.1"));
    assert_int_equal(r.count, 3);
}

#define OURS "nameserver 10.201.0.1\nnameserver fd00:201::1\n"

static void assert_content(const struct scratch *s, const char *name, const char *content)
{
    _cleanup_close_ int fd = openat(s->fd, name, O_RDONLY | O_CLOEXEC);
    char text[512];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    assert_true(n >= 0);
    text[n] = 0;
    assert_string_equal(text, content);
}

static void resolvers_become_the_file_unless_it_is_somebody_elses(void **state)
{
    struct scratch s = scratch_new();
    _cleanup_free_ char *path = x_asprintf("%s/resolv.conf", s.path);
    struct resolvers r = {0}, now = {0};
    struct stat before, after;

    (void)state;
    assert_true(add(&r, "10.201.0.1") && add(&r, "fd00:201::1"));
    assert_int_equal(resolvers_get(path, &now), -ENOENT);
    assert_int_equal(resolvers_set(path, &r), 0);
    assert_content(&s, "resolv.conf", OURS);
    assert_int_equal(fstatat(s.fd, "resolv.conf", &before, 0), 0);
    assert_int_equal(before.st_mode & 0777, 0644);
    /* As it is: not even written. */
    assert_int_equal(fchmodat(s.fd, "resolv.conf", 0600, 0), 0);
    assert_int_equal(resolvers_set(path, &r), 0);
    assert_int_equal(fstatat(s.fd, "resolv.conf", &after, 0), 0);
    assert_true(after.st_ino == before.st_ino && (after.st_mode & 0777) == 0600);
    assert_int_equal(resolvers_get(path, &now), 0);
    assert_int_equal(now.count, 2);
    assert_string_equal(now.address[0], "10.201.0.1");
    assert_string_equal(now.address[1], "fd00:201::1");
    /* An image's own goes, with all that it says. */
    scratch_write(&s, "resolv.conf",
                  "# of where the image was made\nsearch example.org\nnameserver 192.0.2.53\n"
                  "nameserver x\nnameserver 192.0.2.54\n nameserver 192.0.2.55\n");
    assert_int_equal(resolvers_get(path, &now), 0);
    assert_int_equal(now.count, 2);
    assert_string_equal(now.address[1], "192.0.2.54");
    assert_int_equal(resolvers_set(path, &r), 0);
    assert_content(&s, "resolv.conf", OURS);
    /* A link to a file is somebody's; one to nothing is nobody's. */
    assert_int_equal(unlinkat(s.fd, "resolv.conf", 0), 0);
    assert_int_equal(symlinkat("run/stub.conf", s.fd, "resolv.conf"), 0);
    assert_int_equal(mkdirat(s.fd, "run", 0700), 0);
    scratch_write(&s, "run/stub.conf", "nameserver 127.0.0.53\n");
    assert_int_equal(resolvers_set(path, &r), -EEXIST);
    assert_content(&s, "run/stub.conf", "nameserver 127.0.0.53\n");
    assert_int_equal(unlinkat(s.fd, "run/stub.conf", 0), 0);
    assert_int_equal(resolvers_set(path, &r), 0);
    assert_content(&s, "resolv.conf", OURS);
    assert_int_equal(fstatat(s.fd, "resolv.conf", &after, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(after.st_mode));
    assert_int_equal(faccessat(s.fd, "run/stub.conf", F_OK, 0), -1);
    /* What cannot be written. */
    assert_int_equal(unlinkat(s.fd, "resolv.conf", 0), 0);
    assert_int_equal(mkdirat(s.fd, "resolv.conf", 0700), 0);
    assert_int_equal(resolvers_set(path, &r), -EISDIR);
    assert_int_equal(resolvers_get(path, &now), -EISDIR);
    scratch_done(&s);
}

int main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(a_card_has_what_it_is_told_and_again_is_no_other),
        WITH(another_network_takes_the_place_of_the_first),
        WITH(whatever_else_the_card_had_is_gone),
        WITH(a_card_that_wants_no_ipv6_has_none),
        WITH(a_card_that_is_to_have_no_ipv6_has_none),
        WITH(a_step_that_fails_is_named),
        cmocka_unit_test(a_network_is_checked_before_it_is_tried),
        cmocka_unit_test(resolvers_are_addresses_and_three_at_most),
        cmocka_unit_test(resolvers_become_the_file_unless_it_is_somebody_elses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
