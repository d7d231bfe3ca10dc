#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net_fixture.h"

#include "base/cancel.h"
#include "base/spawn.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ether.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define VNET_HEADER 10
#define WORDS_MAX 40

static int far_fd = -1; /* the other namespace; one test at a time */

const char *net_fixture_lacks(void)
{
    _cleanup_free_ char *nft = spawn_find_program("nft"), *ip = spawn_find_program("ip");

    return geteuid() != 0                      ? "not root"
           : access("/dev/net/tun", R_OK) != 0 ? "no /dev/net/tun"
           : !nft                              ? "no nft"
           : !ip                               ? "no ip"
                                               : NULL;
}

/* Programs ------------------------------------------------------------------------------------- */

char *net_output(const char *command)
{
    _cleanup_free_ char *words = x_strdup(command);
    _cleanup_close_ int out = memfd_create("output", MFD_CLOEXEC), pidfd = -1;
    const char *argv[WORDS_MAX];
    const struct spawn_fd fds[] = {{out, STDOUT_FILENO}, {STDERR_FILENO, STDERR_FILENO}};
    char *rest = words, *word, *text;
    size_t n = 0;
    off_t size;
    pid_t pid;

    while ((word = strsep(&rest, " "))) {
        assert_true(n < WORDS_MAX - 1);
        argv[n++] = word;
    }
    argv[n] = NULL;
    assert_int_equal(spawn_process(&(struct spawn_params){.argv = argv, .fds = fds, .fd_count = 2},
                                   &pid, &pidfd),
                     0);
    assert_int_equal(cancel_wait_fd(NULL, pidfd, POLLIN, test_deadline()), 0);
    if (spawn_reap(pid) != 0) {
        fail_msg("'%s' failed", command);
    }
    size = lseek(out, 0, SEEK_END);
    assert_true(size >= 0);
    text = x_calloc(1, (size_t)size + 1);
    assert_int_equal(pread(out, text, (size_t)size, 0), size);
    return text;
}

void net_run(const char *command)
{
    free(net_output(command));
}

static void add_switches(struct buf *b, const char *dir)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);

    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *path = x_asprintf("%s/%s", dir, names[i]->d_name);
        char value[200] = "";

        if (names[i]->d_type == DT_DIR && names[i]->d_name[0] != '.') {
            add_switches(b, path);
        } else if (names[i]->d_type == DT_REG) {
            _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t len = fd >= 0 ? read(fd, value, sizeof(value) - 1) : 0;

            value[len > 0 ? len : 0] = '\0';
            assert_int_equal(buf_printf(b, "%s %s\n", path, value), 0);
        }
        free(names[i]);
    }
    free(names);
}

char *net_state(void)
{
    static const char *const commands[] = {
        "ip -d link",       "ip addr",    "ip route show table all", "ip -6 route show table all",
        "ip rule",          "ip -6 rule", "ip neigh show nud all",   "ip -6 neigh show nud all",
        "nft list ruleset",
    };
    struct buf b = {.max = 4U << 20};

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        _cleanup_free_ char *text = net_output(commands[i]);

        assert_int_equal(buf_printf(&b, "%s:\n%s", commands[i], text), 0);
    }
    add_switches(&b, "/proc/sys/net/ipv4/conf");
    add_switches(&b, "/proc/sys/net/ipv6/conf");
    return buf_steal_str(&b);
}

/* The namespaces ------------------------------------------------------------------------------- */

static int here(void)
{
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

void net_switch(const char *name, const char *value)
{
    int fd = open(name, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, value, strlen(value)), strlen(value));
    (void)close(fd);
}

/* A new namespace copies IPv4's switches of the first. */
static void enter_new(void)
{
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    net_switch("/proc/sys/net/ipv4/conf/all/forwarding", "0");
    net_switch("/proc/sys/net/ipv4/conf/default/forwarding", "0");
    net_switch("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
    net_switch("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    net_run("ip link set lo up");
}

void net_fixture_enter(bool uplink)
{
    _cleanup_close_ int home = -1;
    _cleanup_free_ char *move = NULL;

    close_p(&far_fd);
    enter_new();
    far_fd = here();
    if (!uplink) {
        return;
    }
    enter_new();
    home = here();
    move = x_asprintf("ip link add up0 type veth peer name far0 netns /proc/%d/fd/%d", getpid(),
                      far_fd);
    net_run(move);
    net_run("ip addr add 192.0.2.1/24 dev up0");
    net_run("ip addr add 2001:db8::1/64 dev up0 nodad");
    net_run("ip link set up0 up");
    assert_int_equal(setns(far_fd, CLONE_NEWNET), 0);
    net_run("ip addr add 192.0.2.2/24 dev far0");
    net_run("ip addr add 2001:db8::2/64 dev far0 nodad");
    net_run("ip link set far0 up");
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    net_run("ip route add default via 192.0.2.2");
    net_run("ip route add default via 2001:db8::2");
}

static socklen_t address_of(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in *four = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof(*four);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &six->sin6_addr), 1);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    return sizeof(*six);
}

int net_socket(bool far, int type, const char *address, uint16_t port)
{
    _cleanup_close_ int home = here();
    struct sockaddr_storage a;
    socklen_t len = address_of(address, port, &a);
    int fd;

    if (far) {
        assert_int_equal(setns(far_fd, CLONE_NEWNET), 0);
    }
    fd = socket(a.ss_family, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    if (type == SOCK_STREAM) {
        assert_int_equal(listen(fd, 5), 0);
    }
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    return fd;
}

void socket_send(int fd, const char *to, uint16_t port, const char *text)
{
    struct sockaddr_storage a;
    socklen_t len = address_of(to, port, &a);

    assert_int_equal(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&a, len), strlen(text));
}

void socket_expect(int fd, const char *text, const char *from, const char *answer)
{
    struct sockaddr_storage a = {0}, expected;
    socklen_t len = sizeof(a);
    char got[200];
    ssize_t n;

    if (cancel_wait_fd(NULL, fd, POLLIN, test_deadline()) < 0) {
        fail_msg("'%s' did not come", text);
    }
    n = recvfrom(fd, got, sizeof(got) - 1, 0, (struct sockaddr *)&a, &len);
    assert_true(n >= 0);
    got[n] = '\0';
    assert_string_equal(got, text);
    (void)address_of(from, 0, &expected);
    if (a.ss_family == AF_INET) {
        assert_int_equal(((struct sockaddr_in *)&a)->sin_addr.s_addr,
                         ((struct sockaddr_in *)&expected)->sin_addr.s_addr);
    } else {
        assert_memory_equal(&((struct sockaddr_in6 *)&a)->sin6_addr,
                            &((struct sockaddr_in6 *)&expected)->sin6_addr, 16);
    }
    if (answer) {
        assert_int_equal(sendto(fd, answer, strlen(answer), 0, (struct sockaddr *)&a, len),
                         strlen(answer));
    }
}

/* Making frames -------------------------------------------------------------------------------- */

static uint32_t sum(uint32_t start, const void *data, size_t len)
{
    const uint8_t *b = data;

    for (size_t i = 0; i < len; i++) {
        start += i % 2 ? b[i] : (uint32_t)b[i] << 8;
    }
    return start;
}

static uint16_t folded(uint32_t s)
{
    while (s >> 16) {
        s = (s & 0xffff) + (s >> 16);
    }
    return htons((uint16_t)~s);
}

static void put(struct frame *f, const void *data, size_t len)
{
    assert_true(f->len + len <= sizeof(f->bytes));
    memcpy(f->bytes + f->len, data, len);
    f->len += len;
}

static void put_ethernet(struct frame *f, const char *to, uint16_t type)
{
    struct ether_header h = {.ether_type = htons(type)};

    f->len = 0;
    assert_non_null(ether_aton_r(to, (struct ether_addr *)h.ether_dhost));
    assert_non_null(ether_aton_r(HOST_GUEST_MAC, (struct ether_addr *)h.ether_shost));
    put(f, &h, sizeof(h));
}

void frame_from_mac(struct frame *f, const char *mac)
{
    assert_non_null(
        ether_aton_r(mac, (struct ether_addr *)((struct ether_header *)f->bytes)->ether_shost));
}

/* Ethernet, IP and `data` of the protocol, whose checksum at `at` is made. */
static struct frame packet(const char *from, const char *to, int protocol, void *data, size_t len,
                           size_t at)
{
    struct frame f = {.len = 0};
    uint8_t a[2][16];
    size_t size = strchr(from, ':') ? 16 : 4;
    int family = size == 16 ? AF_INET6 : AF_INET;
    uint32_t s = (uint32_t)len + (uint32_t)protocol;
    uint16_t checksum;

    assert_int_equal(inet_pton(family, from, a[0]), 1);
    assert_int_equal(inet_pton(family, to, a[1]), 1);
    if (protocol != IPPROTO_ICMP) {
        s = sum(sum(s, a[0], size), a[1], size);
    } else {
        s = 0;
    }
    checksum = folded(sum(s, data, len));
    memcpy((char *)data + at, &checksum, sizeof(checksum));
    put_ethernet(&f, HOST_TAP_MAC, family == AF_INET ? ETHERTYPE_IP : ETHERTYPE_IPV6);
    if (family == AF_INET) {
        struct iphdr h = {.version = 4, .ihl = 5, .ttl = 64, .protocol = (uint8_t)protocol};

        h.tot_len = htons((uint16_t)(sizeof(h) + len));
        memcpy(&h.saddr, a[0], 4);
        memcpy(&h.daddr, a[1], 4);
        h.check = folded(sum(0, &h, sizeof(h)));
        put(&f, &h, sizeof(h));
    } else {
        struct ip6_hdr h = {.ip6_hlim = 255};

        h.ip6_vfc = 6 << 4;
        h.ip6_nxt = (uint8_t)protocol;
        h.ip6_plen = htons((uint16_t)len);
        memcpy(&h.ip6_src, a[0], 16);
        memcpy(&h.ip6_dst, a[1], 16);
        put(&f, &h, sizeof(h));
    }
    put(&f, data, len);
    return f;
}

struct frame frame_udp(const char *from, const char *to, uint16_t port, const char *text)
{
    uint8_t data[200] = {0};
    struct udphdr h = {.source = htons(GUEST_PORT), .dest = htons(port)};
    size_t len = sizeof(h) + strlen(text);

    assert_true(len <= sizeof(data));
    h.len = htons((uint16_t)len);
    memcpy(data, &h, sizeof(h));
    memcpy(data + sizeof(h), text, strlen(text));
    return packet(from, to, IPPROTO_UDP, data, len, offsetof(struct udphdr, check));
}

struct frame frame_syn(const char *from, const char *to, uint16_t port)
{
    struct tcphdr h = {.source = htons(GUEST_PORT), .dest = htons(port), .seq = htonl(1000)};

    h.doff = 5;
    h.syn = 1;
    h.window = htons(1000);
    return packet(from, to, IPPROTO_TCP, &h, sizeof(h), offsetof(struct tcphdr, check));
}

struct frame frame_echo(const char *from, const char *to)
{
    bool six = strchr(from, ':');
    uint8_t data[8] = {six ? ICMP6_ECHO_REQUEST : ICMP_ECHO, 0, 0, 0, 1, 2, 0, 1};

    return packet(from, to, six ? IPPROTO_ICMPV6 : IPPROTO_ICMP, data, sizeof(data), 2);
}

struct frame frame_solicit(const char *from, const char *to, const char *target)
{
    uint8_t data[32] = {ND_NEIGHBOR_SOLICIT};

    assert_int_equal(inet_pton(AF_INET6, target, data + 8), 1);
    data[24] = ND_OPT_SOURCE_LINKADDR;
    data[25] = 1;
    assert_non_null(ether_aton_r(HOST_GUEST_MAC, (struct ether_addr *)(data + 26)));
    return packet(from, to, IPPROTO_ICMPV6, data, sizeof(data), 2);
}

struct frame frame_arp(const char *from, const char *asks_for)
{
    struct frame f;
    struct ether_arp a = {.ea_hdr = {.ar_hrd = htons(1),
                                     .ar_pro = htons(ETHERTYPE_IP),
                                     .ar_hln = 6,
                                     .ar_pln = 4,
                                     .ar_op = htons(ARPOP_REQUEST)}};

    put_ethernet(&f, "ff:ff:ff:ff:ff:ff", ETHERTYPE_ARP);
    assert_non_null(ether_aton_r(HOST_GUEST_MAC, (struct ether_addr *)a.arp_sha));
    assert_int_equal(inet_pton(AF_INET, from, a.arp_spa), 1);
    assert_int_equal(inet_pton(AF_INET, asks_for, a.arp_tpa), 1);
    put(&f, &a, sizeof(a));
    return f;
}

/* Reading frames ------------------------------------------------------------------------------- */

static void tell_payload(const uint8_t *p, size_t len, int protocol, const char *from,
                         const char *to, char *ret, size_t size)
{
    const struct udphdr *udp = (const struct udphdr *)p;
    const struct tcphdr *tcp = (const struct tcphdr *)p;

    if (protocol == IPPROTO_UDP && len >= sizeof(*udp)) {
        (void)snprintf(ret, size, "udp %s > %s %u: %.*s", from, to, ntohs(udp->dest),
                       (int)(len - sizeof(*udp)), (const char *)p + sizeof(*udp));
    } else if (protocol == IPPROTO_TCP && len >= sizeof(*tcp)) {
        (void)snprintf(ret, size, "tcp %s > %s%s%s%s", from, to, tcp->syn ? " syn" : "",
                       tcp->ack ? " ack" : "", tcp->rst ? " rst" : "");
    } else if (len >= 2) {
        (void)snprintf(ret, size, "icmp%s %s > %s %u/%u", protocol == IPPROTO_ICMPV6 ? "6" : "",
                       from, to, p[0], p[1]);
    }
}

/* What a frame is, in words; "" for what a host says of itself. */
static void tell(const uint8_t *p, size_t len, char *ret, size_t size)
{
    const struct ether_header *e = (const struct ether_header *)p;
    const uint8_t *data = p + sizeof(*e);
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];

    (void)snprintf(ret, size, "?");
    assert_true(len >= sizeof(*e));
    len -= sizeof(*e);
    if (e->ether_type == htons(ETHERTYPE_ARP) && len >= sizeof(struct ether_arp)) {
        const struct ether_arp *a = (const struct ether_arp *)data;

        (void)inet_ntop(AF_INET, a->arp_spa, from, sizeof(from));
        (void)snprintf(ret, size, "arp %u %s", ntohs(a->ea_hdr.ar_op), from);
    } else if (e->ether_type == htons(ETHERTYPE_IP) && len >= sizeof(struct iphdr)) {
        const struct iphdr *h = (const struct iphdr *)data;
        size_t skip = h->ihl * 4U, all = ntohs(h->tot_len);

        assert_true(all <= len && skip <= all);
        (void)inet_ntop(AF_INET, &h->saddr, from, sizeof(from));
        (void)inet_ntop(AF_INET, &h->daddr, to, sizeof(to));
        tell_payload(data + skip, all - skip, h->protocol, from, to, ret, size);
    } else if (e->ether_type == htons(ETHERTYPE_IPV6) && len >= sizeof(struct ip6_hdr)) {
        const struct ip6_hdr *h = (const struct ip6_hdr *)data;
        size_t all = ntohs(h->ip6_plen);

        assert_true(all <= len - sizeof(*h));
        (void)inet_ntop(AF_INET6, &h->ip6_src, from, sizeof(from));
        (void)inet_ntop(AF_INET6, &h->ip6_dst, to, sizeof(to));
        tell_payload(data + sizeof(*h), all, h->ip6_nxt, from, to, ret, size);
        /* Multicast listener reports have a hop-by-hop header. */
        if (h->ip6_nxt == IPPROTO_HOPOPTS) {
            ret[0] = '\0';
        }
    }
}

void tap_send(int fd, const struct frame *f)
{
    uint8_t bytes[VNET_HEADER + sizeof(f->bytes)] = {0};

    memcpy(bytes + VNET_HEADER, f->bytes, f->len);
    assert_int_equal(write(fd, bytes, VNET_HEADER + f->len), VNET_HEADER + f->len);
}

void tap_expect(int fd, const char *text)
{
    char told[300] = "";

    while (!told[0]) {
        uint8_t bytes[4096];
        ssize_t n;

        if (cancel_wait_fd(NULL, fd, POLLIN, test_deadline()) < 0) {
            fail_msg("'%s' did not come", text);
        }
        n = read(fd, bytes, sizeof(bytes));
        assert_true(n > VNET_HEADER);
        tell(bytes + VNET_HEADER, (size_t)n - VNET_HEADER, told, sizeof(told));
    }
    assert_string_equal(told, text);
}
