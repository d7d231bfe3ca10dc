/* A guest's place in the network: routes, neighbours, elements of sets. */
#include "base/log.h"
#include "base/str.h"
#include "host/host_priv.h"
#include "host/net_priv.h"
#include "sys/conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ether.h>
#include <stdlib.h>
#include <string.h>

/* The four of a guest: routes from the gateway's addresses (else the kernel takes the uplink's),
 * and neighbours that nobody has to learn. */
static void put_paths(struct net *n, int index, const struct host_nic *nic, bool remove)
{
    struct rtnl_prefix four = rtnl_ipv4(nic->ipv4, 32), six = rtnl_ipv6(nic->ipv6, 128);
    struct rtnl_prefix gateway4 = net_gateway4(&n->subnet), gateway6 = net_gateway6(&n->subnet);
    struct ether_addr mac;

    (void)ether_aton_r(HOST_GUEST_MAC, &mac);
    rtnl_put_route(n->route, index, &four, &gateway4, remove);
    rtnl_put_neighbour(n->route, index, &four, mac.ether_addr_octet, remove);
    if (n->ipv6) {
        rtnl_put_route(n->route, index, &six, &gateway6, remove);
        rtnl_put_neighbour(n->route, index, &six, mac.ether_addr_octet, remove);
    }
}

static int change_sets(struct net *n, const struct host_nic *nic, bool remove)
{
    struct rtnl_prefix four = rtnl_ipv4(nic->ipv4, 32);
    struct nft_element elements[5];
    char name[HOST_TAP_NAME_SIZE];

    net_tap_name(nic->tap, name);
    elements[0] = net_element(NFT_INET, "guard4", name, four.bytes, 4, remove);
    elements[1] = net_element(NFT_INET, "guard6", name, nic->ipv6, 16, remove);
    elements[2] = net_element(NFT_ARP, "guard4", name, four.bytes, 4, remove);
    elements[3] = net_element(NFT_INET, "nat", name, NULL, 0, remove || !nic->nat);
    elements[4] = net_element(NFT_INET, "marks", name, NULL, 0, remove);
    elements[4].data = NET_MARK + nic->tap;
    return nft_change(n->filter, elements, ARRAY_LEN(elements));
}

/* Those with what is beyond the host. Others are let be: a new guest gets nothing by them that the
 * host's own retries would not bring, too. */
static int forget_connections(struct net *n, unsigned tap)
{
    int r = conntrack_forget(n->filter, NET_MARK + tap);

    if (r == -EOPNOTSUPP) {
        log_debug("connections cannot be forgotten: the kernel has no ctnetlink");
        return 0;
    }
    return r;
}

/* Attaching ------------------------------------------------------------------------------------ */

static bool same_guest(const struct host_nic *a, const struct host_nic *b)
{
    return a->ipv4 == b->ipv4 && memcmp(a->ipv6, b->ipv6, sizeof(a->ipv6)) == 0;
}

static int check(const struct net *n, const struct host_nic *nic, struct err *err)
{
    const char *wrong;

    if (net_need_open(n, err) < 0) {
        return -1;
    }
    wrong = host_check_nic(nic, &n->subnet);
    return wrong ? err_set(err, ERR_INVALID, "%s cannot be that of a VM", wrong) : 0;
}

static int attach_locked(struct net *n, const struct host_nic *nic, struct err *err)
{
    struct host_nic *known;
    struct rtnl_link link;
    bool lost_nat;
    int r;

    if (check(n, nic, err) < 0) {
        return -1;
    }
    known = &n->nics[nic->tap];
    if (known->ipv4 != 0 && !same_guest(known, nic) && net_detach_nic(n, known, err) < 0) {
        return -1;
    }
    if (net_find_tap(n, nic->tap, &link, err) < 0) {
        return -1;
    }
    lost_nat = !nic->nat && (known->ipv4 != 0 ? known->nat : n->inherited[nic->tap]);
    put_paths(n, link.index, nic, false);
    r = netlink_run(n->route);
    if (r < 0) {
        (void)net_refused(n->route, r, err, "cannot make the routes of '%s'", link.name);
    } else {
        r = change_sets(n, nic, false);
        if (r < 0) {
            (void)net_refused(n->filter, r, err, "cannot let '%s' in", link.name);
        }
    }
    if (r < 0) {
        struct err undoing;

        if (net_detach_nic(n, nic, &undoing) < 0) {
            log_warn("%s", undoing.message);
        }
        return -1;
    }
    *known = *nic;
    n->inherited[nic->tap] = false;
    r = lost_nat ? forget_connections(n, nic->tap) : 0;
    return r < 0 ? net_refused(n->filter, r, err, "cannot end the connections of '%s'", link.name)
                 : 0;
}

int net_attach(struct net *n, const struct host_nic *nic, struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = attach_locked(n, nic, err);
    pthread_mutex_unlock(&n->mutex);
    return r;
}

/* What another helper has attached ------------------------------------------------------------- */

struct seen {
    struct net *n;
    const bool *there;
    struct nft_element *stale; /* of no TAP that there is */
    size_t stale_count;
    enum nft_family family;
    const char *set;
    bool is_map; /* of marks */
};

/* The number in a key that begins with a TAP's name; -1: it is none. */
static int tap_of_key(const uint8_t *key)
{
    char name[IFNAMSIZ + 1] = "", again[HOST_TAP_NAME_SIZE];
    uint64_t tap;

    memcpy(name, key, IFNAMSIZ);
    if (!str_starts_with(name, HOST_TAP_PREFIX) ||
        str_to_u64(name + sizeof(HOST_TAP_PREFIX) - 1, HOST_TAPS_MAX - 1, &tap) < 0) {
        return -1;
    }
    net_tap_name((unsigned)tap, again);
    return str_eq(name, again) ? (int)tap : -1;
}

static void note_stale(struct seen *s, unsigned tap, const uint8_t *key, size_t len)
{
    struct nft_element *e;

    s->stale = reallocarray(s->stale, s->stale_count + 1, sizeof(*s->stale));
    if (!s->stale) {
        abort();
    }
    e = &s->stale[s->stale_count++];
    *e = (struct nft_element){.family = s->family,
                              .table = NET_TABLE,
                              .set = s->set,
                              .key_len = len,
                              .data = s->is_map ? NET_MARK + tap : 0,
                              .remove = true};
    memcpy(e->key, key, len);
}

static void on_key(const uint8_t *key, size_t len, void *arg)
{
    struct seen *s = arg;
    int tap = len < IFNAMSIZ || len > NFT_KEY_MAX ? -1 : tap_of_key(key);
    struct host_nic *nic;
    uint32_t ipv4;

    if (tap < 0) {
        return; /* none of ours */
    }
    if (!s->there[tap]) {
        note_stale(s, (unsigned)tap, key, len);
        return;
    }
    nic = &s->n->nics[tap];
    if (len == IFNAMSIZ + sizeof(ipv4)) {
        memcpy(&ipv4, key + IFNAMSIZ, sizeof(ipv4));
        nic->tap = (unsigned)tap;
        nic->ipv4 = ntohl(ipv4);
    } else if (len == IFNAMSIZ + sizeof(nic->ipv6)) {
        memcpy(nic->ipv6, key + IFNAMSIZ, sizeof(nic->ipv6));
    } else if (!s->is_map) {
        nic->nat = true;
    }
}

static int remove_stale(struct seen *s)
{
    int r = 0;

    for (size_t i = 0; i < s->stale_count && r == 0; i += NFT_ELEMENTS_MAX) {
        size_t left = s->stale_count - i;

        r = nft_change(s->n->filter, s->stale + i,
                       left < NFT_ELEMENTS_MAX ? left : NFT_ELEMENTS_MAX);
    }
    return r;
}

int net_see_nics(struct net *n, const bool *there, struct err *err)
{
    static const struct {
        enum nft_family family;
        const char *set;
        bool is_map;
    } sets[] = {{NFT_INET, "guard4", false},
                {NFT_INET, "guard6", false},
                {NFT_INET, "nat", false},
                {NFT_ARP, "guard4", false},
                {NFT_INET, "marks", true}};
    struct seen s = {.n = n, .there = there};
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(sets) && r == 0; i++) {
        s.family = sets[i].family;
        s.set = sets[i].set;
        s.is_map = sets[i].is_map;
        r = nft_each(n->filter, s.family, NET_TABLE, s.set, on_key, &s);
    }
    if (r == 0) {
        r = remove_stale(&s);
    }
    free(s.stale);
    return r < 0 ? net_refused(n->filter, r, err, "cannot see who is in the rules for VMs") : 0;
}

/* The guard first: from then on nothing of it comes in. */
int net_detach_nic(struct net *n, const struct host_nic *nic, struct err *err)
{
    struct host_nic gone = *nic; /* nic may be what is cleared below */
    struct rtnl_link link;
    struct err none;
    int r = change_sets(n, &gone, true);

    if (r < 0) {
        return net_refused(n->filter, r, err, "cannot shut out TAP %u", gone.tap);
    }
    if (net_find_tap(n, gone.tap, &link, &none) == 0) {
        put_paths(n, link.index, &gone, true);
        r = netlink_run(n->route);
    } else if (none.code != ERR_NOT_FOUND) {
        *err = none;
        return -1;
    }
    if (r < 0) {
        return net_refused(n->route, r, err, "cannot remove the routes of TAP %u", gone.tap);
    }
    memset(&n->nics[gone.tap], 0, sizeof(n->nics[gone.tap]));
    n->inherited[gone.tap] = false;
    r = forget_connections(n, gone.tap);
    return r < 0 ? net_refused(n->filter, r, err, "cannot end the connections of TAP %u", gone.tap)
                 : 0;
}

int net_detach(struct net *n, const struct host_nic *nic, struct err *err)
{
    int r;

    pthread_mutex_lock(&n->mutex);
    r = check(n, nic, err);
    /* A TAP that has another guest by now has not this one. */
    if (r == 0 && (n->nics[nic->tap].ipv4 == 0 || same_guest(&n->nics[nic->tap], nic))) {
        r = net_detach_nic(n, nic, err);
    }
    pthread_mutex_unlock(&n->mutex);
    return r;
}
