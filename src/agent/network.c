#include "agent/network.h"

#include "agent/netlink.h"
#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define MAC_LEN 6
/* Addresses of somebody else's that are removed at once, and how often that is tried. */
#define STRAYS_MAX 16
#define ROUNDS_MAX 8
#define STEPS_MAX 32 /* of one write, at most */

static const uint8_t gateway6[16] = {0xfe, 0x80, [15] = 1}; /* fe80::1 */

/* As a dump of links shows it. */
struct card {
    int index; /* 0: none */
    bool up;
    bool has_ipv6;     /* the kernel has */
    bool ipv6_is_off;  /* net.ipv6.conf.CARD.disable_ipv6 */
    bool is_quiet;     /* makes no link-local address */
    bool is_receptive; /* to routers' advertisements */
    uint32_t mtu;
    uint8_t mac[MAC_LEN];
    char name[IF_NAMESIZE];
};

struct stray {
    uint8_t family, bits;
    uint8_t address[16];
};

struct step {
    const char *name;
    int harmless; /* an error that is none here, or 0 */
};

struct change {
    struct netlink nl;
    const struct frame_network *wanted;
    struct card card, other;
    unsigned others; /* Ethernet cards that have another MAC */
    struct frame_network now;
    struct stray strays[STRAYS_MAX];
    unsigned stray_count;
    struct step steps[STEPS_MAX]; /* by sequence number */
    const char *failed;
};

bool network_valid(const struct frame_network *n)
{
    static const uint8_t none[16];
    const uint8_t *const ipv4s[] = {n->ipv4, n->gateway4};
    const uint8_t *const macs[] = {n->mac, n->gateway_mac};

    for (size_t i = 0; i < ARRAY_LEN(ipv4s); i++) {
        /* RFC 1122 §3.2.1.3: this host, loopback, multicast and what is reserved. */
        if (ipv4s[i][0] == 0 || ipv4s[i][0] == 127 || ipv4s[i][0] >= 224) {
            return false;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(macs); i++) {
        if ((macs[i][0] & 1) || memcmp(macs[i], none, MAC_LEN) == 0) {
            return false;
        }
    }
    /* Neither multicast nor of the link alone, where fe80::1 is somebody else; no ::1; but none. */
    return memcmp(n->ipv4, n->gateway4, 4) != 0 && memcmp(n->mac, n->gateway_mac, MAC_LEN) != 0 &&
           n->ipv6[0] != 0xff && !(n->ipv6[0] == 0xfe && (n->ipv6[1] & 0x80)) &&
           (memcmp(n->ipv6, none, 15) != 0 || n->ipv6[15] == 0) && n->mtu >= NETWORK_MTU_MIN;
}

/* One request of a change ----------------------------------------------------------------------
 */

static void *begin(struct change *c, const char *step, uint16_t type, uint16_t flags, size_t size)
{
    void *fixed = netlink_begin(&c->nl, type, flags, size);

    c->steps[c->nl.seq % STEPS_MAX] = (struct step){.name = step};
    return fixed;
}

static void forgive(struct change *c, int error)
{
    c->steps[c->nl.seq % STEPS_MAX].harmless = error;
}

static int on_failure(void *arg, uint32_t seq, int error)
{
    struct change *c = arg;
    const struct step *step = &c->steps[seq % STEPS_MAX];

    if (error == step->harmless) {
        return 0;
    }
    c->failed = step->name;
    return error;
}

/* The card -------------------------------------------------------------------------------------
 */

static uint32_t take32(const void *p)
{
    uint32_t value = 0;

    if (p) {
        memcpy(&value, p, sizeof(value));
    }
    return value;
}

static void read_ipv6(struct card *card, const struct nlmsghdr *h)
{
    size_t len;
    const void *spec = netlink_find(h, sizeof(struct ifinfomsg), IFLA_AF_SPEC, 0, &len);
    const void *ipv6 = spec ? netlink_find_in(spec, len, AF_INET6, 0, &len) : NULL;
    const uint8_t *mode, *conf;

    if (!ipv6) {
        return;
    }
    mode = netlink_find_in(ipv6, len, IFLA_INET6_ADDR_GEN_MODE, 1, NULL);
    conf = netlink_find_in(ipv6, len, IFLA_INET6_CONF, 4 * (DEVCONF_DISABLE_IPV6 + 1), NULL);
    card->has_ipv6 = true;
    card->is_quiet = mode && *mode == IN6_ADDR_GEN_MODE_NONE;
    card->is_receptive = !conf || take32(conf + (size_t)4 * DEVCONF_ACCEPT_RA) != 0;
    card->ipv6_is_off = conf && take32(conf + (size_t)4 * DEVCONF_DISABLE_IPV6) != 0;
}

/* Of Ethernet, with a name; else false. */
static bool read_card(struct card *ret, const struct nlmsghdr *h)
{
    const struct ifinfomsg *link = NLMSG_DATA(h);
    const void *mac, *name;
    size_t name_len;

    if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(*link)) ||
        link->ifi_type != ARPHRD_ETHER) {
        return false;
    }
    mac = netlink_find(h, sizeof(*link), IFLA_ADDRESS, MAC_LEN, NULL);
    name = netlink_find(h, sizeof(*link), IFLA_IFNAME, 2, &name_len);
    if (!mac || !name || name_len > sizeof(ret->name)) {
        return false;
    }
    *ret = (struct card){.index = link->ifi_index,
                         .up = link->ifi_flags & IFF_UP,
                         .mtu = take32(netlink_find(h, sizeof(*link), IFLA_MTU, 4, NULL))};
    memcpy(ret->mac, mac, MAC_LEN);
    memcpy(ret->name, name, name_len - 1);
    read_ipv6(ret, h);
    return true;
}

/* Whatever has been made on top of it (a VLAN, an ipvlan) may have its address, and came later. */
static void on_link(void *arg, const struct nlmsghdr *h)
{
    struct change *c = arg;
    struct card card;

    if (!read_card(&card, h)) {
        return;
    }
    if (memcmp(card.mac, c->wanted->mac, MAC_LEN) == 0) {
        if (c->card.index == 0 || card.index < c->card.index) {
            c->card = card;
        }
    } else if (!netlink_find(h, sizeof(struct ifinfomsg), IFLA_LINKINFO, 0, NULL)) {
        c->other = card; /* a device, and no bridge or the like */
        c->others++;
    }
}

static int find_card(struct change *c)
{
    const uint32_t without = RTEXT_FILTER_SKIP_STATS;
    int r;

    (void)begin(c, "network: card", RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
    netlink_put(&c->nl, IFLA_EXT_MASK, &without, sizeof(without));
    c->failed = "network: card";
    r = netlink_run(&c->nl, on_link, on_failure, c);
    if (r == 0 && c->card.index == 0 && c->others == 1) {
        c->card = c->other; /* somebody has given it another address */
    }
    return r < 0 ? r : c->card.index == 0 ? -ENODEV : 0;
}

/* Netlink has no word for this one. */
static int refuse_advertisements(const struct card *card)
{
    char path[64 + IF_NAMESIZE];
    _cleanup_close_ int fd = -1;

    (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", card->name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, "0\n", 2) < 0 ? -errno : 0;
}

/* What it has ----------------------------------------------------------------------------------
 */

static size_t size_of(uint8_t family)
{
    return family == AF_INET ? 4 : 16;
}

/* Before the card is up, or it makes an address of its own, and speaks. A request of its own:
 * the kernel does this last of all that one asks for (6.18). */
static void put_mode(struct change *c)
{
    const uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
    struct ifinfomsg *link = begin(c, "network: addr_gen_mode", RTM_SETLINK, 0, sizeof(*link));
    size_t spec, ipv6;

    link->ifi_index = c->card.index;
    spec = netlink_nest(&c->nl, IFLA_AF_SPEC);
    ipv6 = netlink_nest(&c->nl, AF_INET6);
    netlink_put(&c->nl, IFLA_INET6_ADDR_GEN_MODE, &mode, 1);
    netlink_unnest(&c->nl, ipv6);
    netlink_unnest(&c->nl, spec);
}

static void put_link(struct change *c)
{
    const uint32_t mtu = c->wanted->mtu;
    struct ifinfomsg *link = begin(c, "network: link", RTM_SETLINK, 0, sizeof(*link));

    link->ifi_index = c->card.index;
    link->ifi_flags = link->ifi_change = IFF_UP;
    netlink_put(&c->nl, IFLA_MTU, &mtu, sizeof(mtu));
    if (memcmp(c->card.mac, c->wanted->mac, MAC_LEN) != 0) {
        netlink_put(&c->nl, IFLA_ADDRESS, c->wanted->mac, MAC_LEN);
    }
}

static void put_address(struct change *c, const char *step, uint8_t family, const uint8_t *address)
{
    struct ifaddrmsg *a = begin(c, step, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*a));

    a->ifa_family = family;
    a->ifa_prefixlen = (uint8_t)(8 * size_of(family));
    a->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
    a->ifa_index = (uint32_t)c->card.index;
    netlink_put(&c->nl, IFA_LOCAL, address, size_of(family));
    netlink_put(&c->nl, IFA_ADDRESS, address, size_of(family));
}

/* Nobody has to answer for it, ever: that is what permanent means. */
static void put_neighbour(struct change *c, const char *step, uint8_t family,
                          const uint8_t *address)
{
    struct ndmsg *n = begin(c, step, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*n));

    n->ndm_family = family;
    n->ndm_ifindex = c->card.index;
    n->ndm_state = NUD_PERMANENT;
    netlink_put(&c->nl, NDA_DST, address, size_of(family));
    netlink_put(&c->nl, NDA_LLADDR, c->wanted->gateway_mac, MAC_LEN);
}

/* To everywhere. On link: the gateway is of no prefix that the card has. */
static void put_route(struct change *c, const char *step, uint8_t family, const uint8_t *gateway)
{
    const uint32_t index = (uint32_t)c->card.index;
    struct rtmsg *r = begin(c, step, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*r));

    r->rtm_family = family;
    r->rtm_table = RT_TABLE_MAIN;
    r->rtm_protocol = RTPROT_STATIC;
    r->rtm_scope = RT_SCOPE_UNIVERSE;
    r->rtm_type = RTN_UNICAST;
    r->rtm_flags = RTNH_F_ONLINK;
    netlink_put(&c->nl, RTA_GATEWAY, gateway, size_of(family));
    netlink_put(&c->nl, RTA_OIF, &index, sizeof(index));
}

/* Of the first, others may go with it. */
static void remove_strays(struct change *c)
{
    for (unsigned i = 0; i < c->stray_count; i++) {
        const struct stray *s = &c->strays[i];
        struct ifaddrmsg *a = begin(c, "network: old address", RTM_DELADDR, 0, sizeof(*a));

        forgive(c, -EADDRNOTAVAIL);
        a->ifa_family = s->family;
        a->ifa_prefixlen = s->bits;
        a->ifa_index = (uint32_t)c->card.index;
        netlink_put(&c->nl, IFA_LOCAL, s->address, size_of(s->family));
    }
}

static void remove_neighbour(struct change *c, const uint8_t old_gateway4[4])
{
    static const uint8_t none[4];
    struct ndmsg *n;

    if (memcmp(old_gateway4, none, 4) == 0 || memcmp(old_gateway4, c->wanted->gateway4, 4) == 0) {
        return;
    }
    n = begin(c, "network: old gateway", RTM_DELNEIGH, 0, sizeof(*n));
    forgive(c, -ENOENT);
    n->ndm_family = AF_INET;
    n->ndm_ifindex = c->card.index;
    netlink_put(&c->nl, NDA_DST, old_gateway4, 4);
}

static bool wants_ipv6(const struct frame_network *w)
{
    static const uint8_t none[16];

    return memcmp(w->ipv6, none, sizeof(none)) != 0;
}

/* Also reads back what there is then, if all that is a stretch of one write. */
static void put_all(struct change *c)
{
    const struct frame_network *w = c->wanted;
    struct ifinfomsg *link;

    put_address(c, "network: address", AF_INET, w->ipv4);
    put_neighbour(c, "network: gateway", AF_INET, w->gateway4);
    put_route(c, "network: route", AF_INET, w->gateway4);
    if (c->card.has_ipv6 && !c->card.ipv6_is_off && wants_ipv6(w)) {
        put_address(c, "network: IPv6 address", AF_INET6, w->ipv6);
        put_neighbour(c, "network: IPv6 gateway", AF_INET6, gateway6);
        put_route(c, "network: IPv6 route", AF_INET6, gateway6);
    }
    link = begin(c, "network: read back", RTM_GETLINK, 0, sizeof(*link));
    link->ifi_index = c->card.index;
    (void)begin(c, "network: read back", RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
}

/* What there is --------------------------------------------------------------------------------
 */

static void note_address(struct change *c, const struct ifaddrmsg *a, const uint8_t *address)
{
    size_t size = size_of(a->ifa_family);
    uint8_t *now = a->ifa_family == AF_INET ? c->now.ipv4 : c->now.ipv6;
    const uint8_t *wanted = a->ifa_family == AF_INET ? c->wanted->ipv4 : c->wanted->ipv6;

    if (memcmp(address, wanted, size) == 0 && a->ifa_prefixlen == 8 * size) {
        memcpy(now, address, size);
    } else if (c->stray_count < STRAYS_MAX) {
        struct stray *s = &c->strays[c->stray_count++];

        s->family = a->ifa_family;
        s->bits = a->ifa_prefixlen;
        memcpy(s->address, address, size);
    }
}

static void on_address(struct change *c, const struct nlmsghdr *h)
{
    const struct ifaddrmsg *a = NLMSG_DATA(h);
    const void *address;
    size_t size;

    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*a)) || a->ifa_index != (uint32_t)c->card.index ||
        (a->ifa_family != AF_INET && a->ifa_family != AF_INET6)) {
        return;
    }
    size = size_of(a->ifa_family);
    address = netlink_find(h, sizeof(*a), IFA_LOCAL, size, NULL);
    if (!address) { /* of IPv6 but for one whose peer is named */
        address = netlink_find(h, sizeof(*a), IFA_ADDRESS, size, NULL);
    }
    if (address) {
        note_address(c, a, address);
    }
}

static void on_read_back(void *arg, const struct nlmsghdr *h)
{
    struct change *c = arg;
    struct card card;

    if (h->nlmsg_type == RTM_NEWADDR) {
        on_address(c, h);
    } else if (read_card(&card, h) && card.index == c->card.index && card.up) {
        memcpy(c->now.mac, card.mac, MAC_LEN);
        c->now.mtu = (uint16_t)(card.mtu <= UINT16_MAX ? card.mtu : 0);
    }
}

static int change_card(struct change *c, const uint8_t old_gateway4[4])
{
    const struct card *card = &c->card;
    int r = card->is_receptive && card->has_ipv6 ? refuse_advertisements(card) : 0;

    if (r < 0) {
        c->failed = "network: accept_ra";
        return r;
    }
    if (card->has_ipv6 && !card->is_quiet) {
        put_mode(c);
    }
    if (!card->up || card->mtu != c->wanted->mtu ||
        memcmp(card->mac, c->wanted->mac, MAC_LEN) != 0) {
        put_link(c);
    }
    remove_neighbour(c, old_gateway4);
    /* Strays show in the first round. When they are gone all is done again: of IPv6 one address
     * has one length of prefix, and ours may have been among them. */
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        remove_strays(c);
        c->stray_count = 0;
        memset(&c->now, 0, sizeof(c->now));
        put_all(c);
        c->failed = "network: netlink";
        r = netlink_run(&c->nl, on_read_back, on_failure, c);
        if (r < 0 || c->stray_count == 0) {
            return r;
        }
    }
    c->failed = "network: old addresses";
    return -EBUSY;
}

int network_set(const struct frame_network *wanted, const uint8_t old_gateway4[4],
                struct frame_network *ret_now, const char **ret_step)
{
    struct change c;
    int r;

    memset(&c, 0, sizeof(c));
    c.wanted = wanted;
    c.failed = "network: socket";
    r = netlink_open(&c.nl);
    if (r == 0) {
        r = find_card(&c);
    }
    if (r == 0) {
        r = change_card(&c, old_gateway4);
    }
    close_p(&c.nl.fd);
    if (r < 0) {
        *ret_step = c.failed;
        return r;
    }
    *ret_now = c.now;
    return 0;
}
