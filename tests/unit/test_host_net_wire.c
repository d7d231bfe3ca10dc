/* host/: what daemon and helper say to each other about networks, and what the helper allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/str.h"
#include "host/helper.h"
#include "host/host_priv.h"
#include "host/net_sysctl.h"
#include "host/wire.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const struct host_subnet subnet = {
    .ipv4 = 0x0AC90000, .ipv4_bits = 16, .ipv6 = {0xfd, 0, 2, 1}};
static const struct host_nic guest = {
    .tap = 16383, .ipv4 = 0x0AC90005, .ipv6 = {0xfd, 0, 2, 1, [15] = 5}, .nat = true};

/* The wire ------------------------------------------------------------------------------------- */

/* Parses each beginning of it, and it with one byte more, which must fail; then it. */
static void parse(struct buf *b, struct wire_request *ret)
{
    for (size_t n = 0; n < b->len; n++) {
        _cleanup_free_ uint8_t *copy = x_calloc(1, n ? n : 1);

        memcpy(copy, buf_head(b), n);
        assert_int_equal(wire_parse(copy, n, ret), -EPROTO);
    }
    assert_int_equal(buf_append_u8(b, 0), 0);
    assert_int_equal(wire_parse(buf_head(b), b->len, ret), -EPROTO);
    assert_int_equal(wire_parse(buf_head(b), b->len - 1, ret), 0);
}

static void requests_about_networks_arrive_as_they_were_sent(void **state)
{
    static const enum wire_verb verbs[] = {WIRE_NIC_ATTACH, WIRE_NIC_DETACH};
    static const unsigned taps[] = {7, 16383, 0};
    struct wire_request q;

    (void)state;
    {
        _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};

        assert_int_equal(wire_put_subnet(&b, &subnet), 0);
        parse(&b, &q);
        assert_int_equal(q.verb, WIRE_NET_OPEN);
        assert_int_equal(q.subnet.ipv4, subnet.ipv4);
        assert_int_equal(q.subnet.ipv4_bits, 16);
        assert_memory_equal(q.subnet.ipv6, subnet.ipv6, 16);
    }
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};

        assert_int_equal(wire_put_nic(&b, verbs[i], &guest), 0);
        parse(&b, &q);
        assert_int_equal(q.verb, verbs[i]);
        assert_int_equal(q.nic.tap, 16383);
        assert_int_equal(q.nic.ipv4, guest.ipv4);
        assert_memory_equal(q.nic.ipv6, guest.ipv6, 16);
        assert_true(q.nic.nat);
        b.data[b.start + b.len - 2] = 2; /* nat is 0 or 1 */
        assert_int_equal(wire_parse(buf_head(&b), b.len - 1, &q), -EPROTO);
    }
    {
        _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};

        assert_int_equal(wire_put_taps(&b, WIRE_TAP_DELETE, taps, ARRAY_LEN(taps)), 0);
        parse(&b, &q);
        assert_int_equal(q.verb, WIRE_TAP_DELETE);
        assert_int_equal(q.tap_count, 3);
        assert_memory_equal(q.taps, taps, sizeof(taps));
    }
}

static void a_tap_is_opened_alone_and_not_too_many_are_deleted(void **state)
{
    unsigned taps[HOST_TAPS_AT_ONCE + 1] = {0};
    struct wire_request q;

    (void)state;
    for (size_t count = 0; count <= 2; count++) {
        _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};

        assert_int_equal(wire_put_taps(&b, WIRE_TAP_OPEN, taps, count), 0);
        assert_int_equal(wire_parse(buf_head(&b), b.len, &q), count == 1 ? 0 : -EPROTO);
    }
    {
        _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};

        assert_int_equal(wire_put_taps(&b, WIRE_TAP_DELETE, taps, HOST_TAPS_AT_ONCE), 0);
        assert_int_equal(wire_parse(buf_head(&b), b.len, &q), 0);
        b.data[8]++; /* the count */
        assert_int_equal(buf_append_le32(&b, 0), 0);
        assert_int_equal(wire_parse(buf_head(&b), b.len, &q), -EPROTO);
        assert_int_equal(wire_put_taps(&b, WIRE_TAP_DELETE, taps, HOST_TAPS_AT_ONCE + 1), -ENOBUFS);
    }
}

/* What is allowed ------------------------------------------------------------------------------ */

static void subnets_are_private_ones(void **state)
{
    static const struct {
        uint32_t ipv4;
        unsigned bits;
        bool fine;
    } cases[] = {
        {0x0A000000, 8, true},   {0x0AC90000, 16, true},  {0x0AFFFF00, 24, true},
        {0xAC100000, 12, true},  {0xAC1F0000, 16, true},  {0xC0A80000, 16, true},
        {0x64400000, 10, true},  {0x647F0000, 16, true},  {0x0A000000, 7, false},
        {0x0A000000, 25, false}, {0x0A000000, 0, false},  {0x0A000000, 33, false},
        {0x0AC90001, 16, false}, {0xAC100000, 11, false}, {0xAC200000, 16, false},
        {0xC0A80000, 15, false}, {0xC0A90000, 16, false}, {0x64400000, 9, false},
        {0x64800000, 16, false}, {0x7F000000, 8, false},  {0xA9FE0000, 16, false},
        {0xE0000000, 8, false},  {0, 8, false},
    };
    struct host_subnet s = subnet;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        s.ipv4 = cases[i].ipv4;
        s.ipv4_bits = cases[i].bits;
        if (!host_check_subnet(&s) != cases[i].fine) {
            fail_msg("%08x/%u", cases[i].ipv4, cases[i].bits);
        }
    }
    s = subnet;
    s.ipv6[0] = 0xfc;
    assert_string_equal(host_check_subnet(&s), "the IPv6 subnet");
    s = subnet;
    s.ipv6[8] = 1;
    assert_string_equal(host_check_subnet(&s), "the IPv6 subnet");
}

static void guests_are_of_the_subnet_and_not_the_gateway(void **state)
{
    static const uint32_t wrong[] = {0x0AC90000, 0x0AC90001, 0x0AC9FFFF, 0x0ACA0005, 0};
    struct host_nic n = guest;

    (void)state;
    assert_null(host_check_nic(&n, &subnet));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        n.ipv4 = wrong[i];
        assert_string_equal(host_check_nic(&n, &subnet), "the IPv4 address");
    }
    n = guest;
    n.tap = HOST_TAPS_MAX;
    assert_string_equal(host_check_nic(&n, &subnet), "the number of the TAP");
    n = guest;
    n.ipv6[15] = 1;
    assert_string_equal(host_check_nic(&n, &subnet), "the IPv6 address");
    n.ipv6[15] = 0;
    assert_string_equal(host_check_nic(&n, &subnet), "the IPv6 address");
    n = guest;
    n.ipv6[7] = 1;
    assert_string_equal(host_check_nic(&n, &subnet), "the IPv6 address");
}

/* Both ends ------------------------------------------------------------------------------------ */

/* A helper in a child process, whose host is a fake; its network is shared memory. */
struct pair {
    struct host_fake_net *net;
    struct host *host;
    pid_t pid;
};

static void pair_init(struct pair *p)
{
    int ends[2];

    p->net = mmap(NULL, sizeof(*p->net), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p->net != MAP_FAILED);
    p->net->mtu = 1420;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        unsigned kills = 0;
        struct err err;

        (void)close(ends[0]);
        _exit(helper_serve(
                  &(struct helper_params){.host = host_fake_new(&(struct host_fake_params){
                                              .program = "/none", .kills = &kills, .net = p->net}),
                                          .runtime_dir = "/none",
                                          .fd = ends[1]},
                  &err) < 0
                  ? 3
                  : 0);
    }
    (void)close(ends[1]);
    p->host = host_proxy_new(ends[0]);
}

/* Its exit status. */
static int pair_done(struct pair *p)
{
    int status = -1;

    host_free(p->host);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    assert_int_equal(munmap(p->net, sizeof(*p->net)), 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void each_verb_reaches_the_helpers_host_and_its_answer_comes_back(void **state)
{
    static const unsigned doomed[] = {9};
    _cleanup_free_ unsigned *taps = NULL;
    struct stat st;
    struct pair p;
    struct err err;
    unsigned mtu = 0;
    size_t count;
    int fd = -1;

    (void)state;
    pair_init(&p);
    assert_int_equal(host_net_open(p.host, &subnet, &mtu, &err), 0);
    assert_int_equal(mtu, 1420);
    assert_true(p.net->is_open);
    assert_memory_equal(&p.net->subnet, &subnet, sizeof(subnet));
    p.net->mtu = 1300;
    assert_int_equal(host_net_refresh(p.host, &mtu, &err), 0);
    assert_int_equal(mtu, 1300);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(host_tap_open(p.host, i == 2 ? 16383 : i * 9, &fd, &err), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close_p(&fd);
    }
    assert_int_equal(host_tap_delete(p.host, doomed, ARRAY_LEN(doomed), &err), 0);
    assert_int_equal(host_tap_list(p.host, &taps, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_int_equal(taps[0], 0);
    assert_int_equal(taps[1], 16383);
    assert_int_equal(host_nic_attach(p.host, &guest, &err), 0);
    assert_int_equal(p.net->nics[16383].ipv4, guest.ipv4);
    assert_int_equal(host_nic_detach(p.host, &guest, &err), 0);
    assert_int_equal(p.net->nics[16383].ipv4, 0);
    assert_int_equal(host_net_close(p.host, &err), 0);
    assert_false(p.net->is_open);
    assert_int_equal(pair_done(&p), 0);
}

static void the_errors_of_the_helpers_host_come_back(void **state)
{
    static const char *const verbs[] = {"net_open",   "net_refresh", "net_close",  "tap_open",
                                        "tap_delete", "tap_list",    "nic_attach", "nic_detach"};
    unsigned mtu, tap = 1, *taps;
    struct pair p;
    size_t count;
    int fd;

    (void)state;
    pair_init(&p);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        struct err err = {0};
        int r;

        (void)err_set(&p.net->fail, ERR_CONFLICT, "no %s", verbs[i]);
        (void)err_hint(&p.net->fail, "yes");
        p.net->fail_verb = verbs[i]; /* the same address in both */
        r = i == 0   ? host_net_open(p.host, &subnet, &mtu, &err)
            : i == 1 ? host_net_refresh(p.host, &mtu, &err)
            : i == 2 ? host_net_close(p.host, &err)
            : i == 3 ? host_tap_open(p.host, 1, &fd, &err)
            : i == 4 ? host_tap_delete(p.host, &tap, 1, &err)
            : i == 5 ? host_tap_list(p.host, &taps, &count, &err)
            : i == 6 ? host_nic_attach(p.host, &guest, &err)
                     : host_nic_detach(p.host, &guest, &err);
        assert_int_equal(r, -1);
        assert_int_equal(err.code, ERR_CONFLICT);
        assert_non_null(strstr(err.message, verbs[i]));
        assert_string_equal(err.hint, "yes");
    }
    assert_int_equal(p.net->calls, ARRAY_LEN(verbs));
    assert_int_equal(pair_done(&p), 0);
}

static int ask_what_must_not_be(struct host *host, int which, struct err *err)
{
    struct host_subnet s = subnet;
    struct host_nic n = guest;
    unsigned mtu, tap = HOST_TAPS_MAX;
    int fd;

    switch (which) {
    case 0:
        s.ipv4 = 0x08080000;
        return host_net_open(host, &s, &mtu, err);
    case 1:
        return host_tap_open(host, HOST_TAPS_MAX, &fd, err);
    case 2:
        return host_tap_delete(host, &tap, 1, err);
    case 3:
        n.ipv4 = subnet.ipv4 | 1;
        return host_nic_attach(host, &n, err);
    case 4:
        n.ipv6[3] = 7;
        return host_nic_detach(host, &n, err);
    default:
        n.tap = HOST_TAPS_MAX;
        return host_nic_detach(host, &n, err);
    }
}

static void what_must_not_be_asked_ends_the_helper(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct pair p;
        struct err err;
        unsigned mtu;

        pair_init(&p);
        assert_int_equal(host_net_open(p.host, &subnet, &mtu, &err), 0);
        assert_int_equal(ask_what_must_not_be(p.host, i, &err), -1);
        assert_non_null(strstr(err.message, "is gone"));
        assert_int_equal(p.net->calls, 1);
        assert_int_equal(pair_done(&p), 3);
    }
}

static void a_host_without_a_network_says_so(void **state)
{
    unsigned kills = 0, mtu;
    struct host *fake =
        host_fake_new(&(struct host_fake_params){.program = "/none", .kills = &kills});
    struct err err;

    (void)state;
    assert_int_equal(host_net_open(fake, &subnet, &mtu, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    host_free(fake);
}

/* The record of switches, below a directory that stands for /proc/sys ---------------------------
 */

static void make_switch(const struct scratch *s, const char *dir, const char *name,
                        const char *value)
{
    _cleanup_free_ char *path = x_asprintf("%s/%s", s->path, dir);
    _cleanup_free_ char *file = x_asprintf("%s/%s", dir, name);

    assert_int_equal(fs_mkdir_p(path, 0700), 0);
    scratch_write(s, file, value);
}

static void assert_value(struct sysctls *s, const char *name, int expected)
{
    int value;

    assert_int_equal(sysctls_read(s, name, &value), 0);
    assert_int_equal(value, expected);
}

static bool keep_none(const char *interface, void *arg)
{
    (void)arg;
    return str_eq(interface, "eth1");
}

#define V4(name) "net/ipv4/conf/" name "/forwarding"
#define V6(name) "net/ipv6/conf/" name "/forwarding"

static void switches_are_put_back_also_by_the_next_helper(void **state)
{
    _cleanup_scratch_ struct scratch scratch = scratch_new();
    struct sysctls *s = sysctls_new(scratch.path, scratch.path, geteuid());

    (void)state;
    make_switch(&scratch, "net/ipv4/conf/eth0", "forwarding", "0\n");
    make_switch(&scratch, "net/ipv4/conf/eth1", "forwarding", "1\n");
    make_switch(&scratch, "net/ipv6/conf/all", "forwarding", "0\n");
    make_switch(&scratch, "net/ipv6/conf/eth0", "forwarding", "0\n");
    make_switch(&scratch, "net/ipv6/conf/eth1", "forwarding", "1\n");
    make_switch(&scratch, "net/ipv6/conf/eth0", "accept_ra", "1\n");
    assert_int_equal(sysctls_load(s), 0);
    assert_int_equal(sysctls_change(s, V4("eth0"), 1), 0);
    assert_int_equal(sysctls_change(s, V4("eth1"), 1), 0); /* was so */
    assert_int_equal(sysctls_note(s, V6("eth1")), 0);
    assert_int_equal(sysctls_change(s, V6("all"), 1), 0);
    assert_int_equal(sysctls_change(s, "net/ipv6/conf/eth0/accept_ra", 2), 0);
    assert_int_equal(sysctls_change(s, V4("eth9"), 1), -ENOENT);
    assert_int_equal(sysctls_change(s, "net/ipv6/conf/eth0/accept_ra/x", 1), -ENOTDIR);
    sysctls_free(s);

    s = sysctls_new(scratch.path, scratch.path, geteuid());
    assert_int_equal(sysctls_load(s), 0);
    assert_int_equal(sysctls_write(s, V6("eth1"), 0), 0); /* as all/forwarding does */
    assert_int_equal(sysctls_change(s, V4("eth0"), 0), 0);
    assert_int_equal(sysctls_change(s, V4("eth0"), 1), 0);
    assert_int_equal(sysctls_restore_others(s, keep_none, NULL), 0);
    assert_value(s, V4("eth0"), 0);
    assert_value(s, "net/ipv6/conf/eth0/accept_ra", 1);
    assert_value(s, V6("all"), 1);
    assert_value(s, V6("eth1"), 0);
    assert_int_equal(faccessat(scratch.fd, "network.sysctls", F_OK, 0), 0);
    assert_int_equal(sysctls_restore_all(s), 0);
    assert_value(s, V6("all"), 0);
    assert_value(s, V6("eth1"), 1);
    assert_value(s, V4("eth1"), 1);
    assert_int_equal(faccessat(scratch.fd, "network.sysctls", F_OK, 0), -1);
    sysctls_free(s);
}

static void other_switches_are_not_changed(void **state)
{
    static const char *const names[] = {
        "net/ipv4/conf/all/forwarding",      "net/ipv4/conf/default/forwarding",
        "net/ipv4/conf/eth0/rp_filter",      "net/ipv4/conf/eth0/accept_ra",
        "net/ipv6/conf/all/accept_ra",       "net/ipv6/conf/..//forwarding",
        "net/ipv4/conf//forwarding",         "net/ipv4/ip_forward",
        "net/ipv6/conf/eth0/forwarding/../", "net/ipv6/conf/0123456789abcdef/forwarding",
    };
    _cleanup_scratch_ struct scratch scratch = scratch_new();
    struct sysctls *s = sysctls_new(scratch.path, scratch.path, geteuid());

    (void)state;
    make_switch(&scratch, "net/ipv4", "ip_forward", "0\n");
    make_switch(&scratch, "net/ipv4/conf/all", "forwarding", "0\n");
    make_switch(&scratch, "net/ipv4/conf/default", "forwarding", "0\n");
    make_switch(&scratch, "net/ipv4/conf/eth0", "rp_filter", "0\n");
    make_switch(&scratch, "net/ipv4/conf/eth0", "accept_ra", "0\n");
    make_switch(&scratch, "net/ipv6/conf/all", "accept_ra", "0\n");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_true(sysctls_change(s, names[i], 1) < 0);
    }
    assert_value(s, "net/ipv4/ip_forward", 0);
    assert_value(s, "net/ipv4/conf/all/forwarding", 0);
    assert_value(s, "net/ipv4/conf/eth0/rp_filter", 0);
    sysctls_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_about_networks_arrive_as_they_were_sent),
        cmocka_unit_test(a_tap_is_opened_alone_and_not_too_many_are_deleted),
        cmocka_unit_test(subnets_are_private_ones),
        cmocka_unit_test(guests_are_of_the_subnet_and_not_the_gateway),
        cmocka_unit_test(each_verb_reaches_the_helpers_host_and_its_answer_comes_back),
        cmocka_unit_test(the_errors_of_the_helpers_host_come_back),
        cmocka_unit_test(what_must_not_be_asked_ends_the_helper),
        cmocka_unit_test(a_host_without_a_network_says_so),
        cmocka_unit_test(switches_are_put_back_also_by_the_next_helper),
        cmocka_unit_test(other_switches_are_not_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
