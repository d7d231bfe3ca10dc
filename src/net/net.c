#include "net/net_priv.h"

#include "base/attr.h"
#include "base/log.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A TAP's own, which is not changed: so much goes through it at once. */
#define TAP_MTU 1500U

/* Of these the first that is nobody's, where the configuration names none: private (RFC 1918), and
 * not where home routers, container engines and clouds begin. */
static const struct {
    uint32_t ipv4;
    unsigned bits;
} candidates[] = {
    {0x0AC90000, 16}, /* 10.201.0.0/16 */
    {0x0AE80000, 16}, /* 10.232.0.0/16 */
    {0x0A9D0000, 16}, /* 10.157.0.0/16 */
    {0xAC1D0000, 16}, /* 172.29.0.0/16 */
    {0x64780000, 16}, /* 100.120.0.0/16, of RFC 6598 */
    {0xC0A8C000, 18}, /* 192.168.192.0/18 */
};

static int parse_subnet(const char *text, struct host_subnet *ret, struct err *err)
{
    char address[NET_TEXT_SIZE];
    const char *slash = strchr(text, '/');
    struct in_addr in;
    uint64_t bits;

    (void)snprintf(address, sizeof(address), "%.*s", (int)(slash ? slash - text : 0), text);
    if (!slash || inet_pton(AF_INET, address, &in) != 1 || str_to_u64(slash + 1, 24, &bits) < 0 ||
        bits < 8 || (ntohl(in.s_addr) & (0xFFFFFFFFU >> bits)) != 0) {
        err_set(err, ERR_INVALID, "subnet = '%.60s' is no IPv4 subnet of 8 to 24 bits", text);
        return err_hint(err, "for example: subnet = \"10.201.0.0/16\", or \"auto\"");
    }
    ret->ipv4 = ntohl(in.s_addr);
    ret->ipv4_bits = (unsigned)bits;
    return 0;
}

/* A unique local /64 (RFC 4193): fd, 40 random bits, subnet 0. */
static void make_ipv6(random_fn random, uint8_t ret[16])
{
    memset(ret, 0, 16);
    ret[0] = 0xFD;
    random(ret + 1, 5);
}

static bool same(const struct host_subnet *a, const struct network_row *b)
{
    return a->ipv4 == b->ipv4 && a->ipv4_bits == b->ipv4_bits &&
           memcmp(a->ipv6, b->ipv6, sizeof(a->ipv6)) == 0;
}

/* The VMs' addresses move with it. What cannot be written down is chosen anew by the next daemon.
 */
static void remember(struct nets *net, struct store *store, const struct network_row *before)
{
    struct network_row row = {.ipv4 = net->subnet.ipv4, .ipv4_bits = net->subnet.ipv4_bits};
    char ipv4[NET_TEXT_SIZE], ipv6[NET_TEXT_SIZE];
    struct err err;

    if (same(&net->subnet, before)) {
        return;
    }
    memcpy(row.ipv6, net->subnet.ipv6, sizeof(row.ipv6));
    nets_subnets(net, ipv4, ipv6);
    if (before->ipv4) {
        log_warn(
            "the VMs' subnet is %s now, and was another: VMs that run have no network until they "
            "are started again",
            ipv4);
    } else {
        log_info("VMs' addresses are of %s and %s", ipv4, ipv6);
    }
    if (store_network_put(store, &row, &err) < 0) {
        log_warn("the VMs' subnet cannot be written down: %s", err.message);
    }
}

static int open_one(struct nets *net, uint32_t ipv4, unsigned bits, struct err *err)
{
    net->subnet.ipv4 = ipv4;
    net->subnet.ipv4_bits = bits;
    return host_net_open(net->host, &net->subnet, &net->mtu, err);
}

/* The one that it was, if it still can be. */
static int open_any(struct nets *net, const struct network_row *before, struct err *err)
{
    if (before->ipv4) {
        if (open_one(net, before->ipv4, before->ipv4_bits, err) == 0) {
            return 0;
        }
        if (err->code != ERR_CONFLICT) {
            return -1;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++) {
        if (open_one(net, candidates[i].ipv4, candidates[i].bits, err) == 0) {
            return 0;
        }
        if (err->code != ERR_CONFLICT) {
            return -1;
        }
    }
    return -1;
}

/* Off on lo, the gateway's address could not be there (host/net.c). */
static bool host_has_ipv6(void)
{
    _cleanup_close_ int fd = open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", O_RDONLY | O_CLOEXEC);
    char value = '1';

    return fd >= 0 && read(fd, &value, 1) == 1 && value == '0';
}

static int open_host(struct nets *net, const struct nets_params *p, struct err *err)
{
    struct network_row before;
    int r;

    if (store_network_get(p->store, &before, err) < 0) {
        return -1;
    }
    if (before.ipv4) {
        memcpy(net->subnet.ipv6, before.ipv6, sizeof(before.ipv6));
    } else {
        make_ipv6(p->random ? p->random : random_bytes, net->subnet.ipv6);
    }
    if (str_eq(p->subnet, "auto")) {
        r = open_any(net, &before, err);
    } else {
        r = parse_subnet(p->subnet, &net->subnet, err) < 0
                ? -1
                : open_one(net, net->subnet.ipv4, net->subnet.ipv4_bits, err);
    }
    if (r < 0 || nets_taps_init(net, err) < 0) {
        return -1;
    }
    net->has_ipv6 = host_has_ipv6();
    nets_slots_init(net);
    remember(net, p->store, &before);
    return 0;
}

/* Somebody who wants none any more: then nothing of what was made for VMs stays. */
static void close_former(const struct nets_params *p)
{
    struct network_row before;
    struct err err;

    if (store_network_get(p->store, &before, &err) < 0 || before.ipv4 == 0) {
        return;
    }
    if (host_net_close(p->host, &err) < 0 && err.code != ERR_UNSUPPORTED &&
        err.code != ERR_CONFLICT) {
        log_warn("something of the VMs' network is left: %s", err.message);
    }
}

int nets_new(const struct nets_params *params, struct nets **ret_net, struct err *err)
{
    struct nets *net = x_calloc(1, sizeof(*net));

    net->host = params->host;
    net->pool_size = params->tap_pool_size;
    net->wake = net->uplink_fd = -1;
    net->stop = cancel_new();
    lock_init(&net->lock);
    *ret_net = net;
    if (str_eq(params->mode, "none")) {
        net->why_not = x_strdup("the configuration says network = \"none\"");
        close_former(params);
        return 0;
    }
    if (open_host(net, params, err) == 0) {
        return 0;
    }
    if (str_eq(params->mode, "nat") || err->code == ERR_INVALID) {
        net->why_not = x_strdup(err->message);
        *ret_net = NULL;
        nets_free(net);
        return -1;
    }
    net->why_not = x_strdup(err->message);
    log_info("VMs have no network: %s%s%s", err->message, err->hint[0] ? ": " : "", err->hint);
    return 0;
}

void nets_free(struct nets *net)
{
    if (!net) {
        return;
    }
    if (!net->why_not) {
        nets_taps_end(net);
    }
    nets_taps_done(net);
    nets_slots_done(net);
    lock_done(&net->lock);
    cancel_put(net->stop);
    close_p(&net->wake);
    close_p(&net->uplink_fd);
    free(net->why_not);
    free(net);
}

const char *nets_why_not(const struct nets *net)
{
    return net->why_not;
}

const struct host_subnet *nets_subnet(const struct nets *net)
{
    return &net->subnet;
}

void nets_subnets(const struct nets *net, char ret_ipv4[NET_TEXT_SIZE],
                  char ret_ipv6[NET_TEXT_SIZE])
{
    struct in_addr in = {.s_addr = htonl(net->subnet.ipv4)};
    char text[INET6_ADDRSTRLEN] = "";

    ret_ipv4[0] = ret_ipv6[0] = '\0';
    if (net->why_not) {
        return;
    }
    (void)inet_ntop(AF_INET, &in, text, sizeof(text));
    (void)snprintf(ret_ipv4, NET_TEXT_SIZE, "%s/%u", text, net->subnet.ipv4_bits);
    (void)inet_ntop(AF_INET6, net->subnet.ipv6, text, sizeof(text));
    (void)snprintf(ret_ipv6, NET_TEXT_SIZE, "%s/64", text);
}

unsigned nets_mtu(struct nets *net)
{
    unsigned mtu;

    leaf_lock(&net->lock);
    mtu = net->mtu;
    leaf_unlock(&net->lock);
    return mtu < TAP_MTU ? mtu : TAP_MTU;
}

struct nets_counts nets_count(struct nets *net)
{
    struct nets_counts c;

    leaf_lock(&net->lock);
    c = (struct nets_counts){.slots = net->slots,
                             .slots_used = net->slots_used,
                             .taps_ready = net->ready_count,
                             .taps_used = net->used_count};
    leaf_unlock(&net->lock);
    return c;
}
