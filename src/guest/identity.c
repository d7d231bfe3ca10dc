/* Who a guest is: it is told, and reads it back. */
#include "guest/guest_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <string.h>

_Static_assert(GUEST_RESOLVERS_MAX == FRAME_RESOLVERS_MAX, "as many as the guest takes");

/* How far a guest's clock may be ahead of ours after it was set: both are read at any moment. */
#define CLOCK_SLACK_MS 1000

static bool is_text(const uint8_t *value, uint32_t len, const char *text)
{
    return len == strlen(text) && memcmp(value, text, len) == 0;
}

/* What a guest has read back. */
struct identity {
    bool name, time, machine_id, boot_id, init, network;
    bool ipv6; /* its network has it */
    unsigned resolvers;
};

static struct frame_network to_frame(const struct guest_network *n)
{
    struct frame_network f = {.mtu = n->mtu};

    for (int i = 0; i < 4; i++) {
        f.ipv4[i] = (uint8_t)(n->ipv4 >> (24 - 8 * i));
        f.gateway4[i] = (uint8_t)(n->gateway4 >> (24 - 8 * i));
    }
    memcpy(f.ipv6, n->ipv6, sizeof(f.ipv6));
    memcpy(f.mac, n->mac, sizeof(f.mac));
    memcpy(f.gateway_mac, n->gateway_mac, sizeof(f.gateway_mac));
    return f;
}

/* No IPv6 at all is the guest's own affair; another address is not. */
static bool is_network(const struct guest_network *wanted, const uint8_t *value, uint32_t len,
                       bool *ret_ipv6)
{
    static const uint8_t none[16];
    struct frame_network has, is_to_have;

    if (!wanted || frame_take_network(value, len, &has) < 0) {
        return false;
    }
    is_to_have = to_frame(wanted);
    *ret_ipv6 = memcmp(has.ipv6, none, sizeof(none)) != 0;
    return memcmp(has.ipv4, is_to_have.ipv4, sizeof(has.ipv4)) == 0 &&
           (!*ret_ipv6 || memcmp(has.ipv6, is_to_have.ipv6, sizeof(has.ipv6)) == 0) &&
           memcmp(has.mac, is_to_have.mac, sizeof(has.mac)) == 0 && has.mtu == is_to_have.mtu;
}

static bool wants_ipv6(const struct guest_network *n)
{
    static const uint8_t none[16];

    return memcmp(n->ipv6, none, sizeof(none)) != 0;
}

static const char *resolver_of(const struct guest_configure *c, unsigned i)
{
    return c->network && i < GUEST_RESOLVERS_MAX ? c->network->resolvers[i] : NULL;
}

/* Takes one of the things that a guest reads back. What is wrong with it, or NULL. */
static const char *take_item(const struct guest_configure *c, uint8_t tag, const uint8_t *value,
                             uint32_t len, int64_t took_ms, struct identity *id)
{
    struct frame_reader v = {.p = value, .left = len};
    const char *resolver;
    uint64_t time_ns;

    switch (tag) {
    case FRAME_TAG_HOSTNAME:
        id->name = is_text(value, len, c->hostname);
        return NULL;
    case FRAME_TAG_MACHINE_ID:
        id->machine_id = c->machine_id && is_text(value, len, c->machine_id);
        return id->machine_id ? NULL : "its machine-id";
    case FRAME_TAG_BOOT_ID:
        id->boot_id = c->boot_id && is_text(value, len, c->boot_id);
        return id->boot_id ? NULL : "its boot_id";
    case FRAME_TAG_INIT:
        id->init = true;
        return NULL;
    case FRAME_TAG_TIME:
        id->time = frame_take_u64(&v, &time_ns) == 0 && time_ns >= c->time_ns &&
                   time_ns - c->time_ns <= ((uint64_t)took_ms + CLOCK_SLACK_MS) * 1000000;
        return NULL;
    case FRAME_TAG_NETWORK:
        id->network = is_network(c->network, value, len, &id->ipv6);
        return id->network ? NULL : "its network";
    case FRAME_TAG_RESOLVER:
        resolver = resolver_of(c, id->resolvers++);
        return resolver && is_text(value, len, resolver) ? NULL : "its resolvers";
    default: /* of a newer agent */
        return NULL;
    }
}

/* What is not as it was asked for in what a guest reads back, or NULL. took_ms: how long ago it was
 * asked. */
static const char *find_difference(const struct guest_configure *c, const struct buf *told,
                                   int64_t took_ms, struct identity *ret_id)
{
    struct frame_reader r = {.p = buf_head(told), .left = told->len};
    struct identity *id = ret_id;
    const char *wrong = NULL;
    const uint8_t *value;
    uint32_t len;
    uint8_t tag;
    int n;

    while (!wrong && (n = frame_take_tlv(&r, &tag, &value, &len)) > 0) {
        wrong = take_item(c, tag, value, len, took_ms, id);
    }
    return wrong                                            ? wrong
           : n < 0                                          ? "what it says"
           : !id->name                                      ? "its name"
           : !id->time                                      ? "its clock"
           : c->boot_id && !id->boot_id                     ? "its boot_id"
           : c->network && !id->network                     ? "its network"
           : id->resolvers && resolver_of(c, id->resolvers) ? "its resolvers"
           : c->begin_init && !id->init                     ? "its init"
                                                            : NULL;
}

/* What a guest may do without. */
static void log_missing(const struct guest_link *link, const struct guest_configure *c,
                        const struct identity *id)
{
    if (c->machine_id && !id->machine_id) {
        log_warn("VM %.12s: the guest could not write its machine-id", link->vm_id);
    }
    if (c->network && wants_ipv6(c->network) && !id->ipv6) {
        log_warn("VM %.12s: the guest has no IPv6", link->vm_id);
    }
    if (resolver_of(c, 0) && id->resolvers == 0) {
        log_warn("VM %.12s: the guest's /etc/resolv.conf is not ours to write", link->vm_id);
    }
}

static int check_identity(const struct guest_link *link, const struct guest_configure *c,
                          const struct buf *told, int64_t took_ms, struct err *err)
{
    struct identity id = {0};
    const char *wrong;

    if (link->proto < FRAME_PROTO_READ_BACK) {
        return 0;
    }
    wrong = find_difference(c, told, took_ms, &id);
    if (wrong) {
        return err_set(err, ERR_GUEST, "configure: the guest is not who it is to be: %s", wrong);
    }
    log_missing(link, c, &id);
    return 0;
}

static int check_known(const struct guest_link *link, const struct guest_configure *c,
                       struct err *err)
{
    unsigned proto = latch_is_set(&link->hello) ? link->proto : 0;
    const char *what = c->boot_id && proto < FRAME_PROTO_BOOT_ID   ? "be given a boot_id"
                       : c->network && proto < FRAME_PROTO_NETWORK ? "have a network"
                       : c->begin_init && proto < FRAME_PROTO_INIT ? "begin an init"
                                                                   : NULL;

    return what ? err_set(err, ERR_UNSUPPORTED, "configure: the guest's agent is too old to %s",
                          what)
                : 0;
}

static int put_network(struct buf *body, const struct guest_configure *c)
{
    struct frame_network network;
    const char *resolver;
    int r = 0;

    if (c->network) {
        network = to_frame(c->network);
        r = frame_put_network(body, &network);
    }
    for (unsigned i = 0; r == 0 && (resolver = resolver_of(c, i)); i++) {
        r = frame_put_tlv(body, FRAME_TAG_RESOLVER, resolver, strlen(resolver));
    }
    return r;
}

int guest_link_configure(struct guest_link *link, const struct guest_configure *params,
                         struct cancel *cancel, int64_t deadline_ms, struct err *err)
{
    _cleanup_buf_ struct buf body, told;
    int64_t start_ms = clock_mono_ms();
    uint8_t entropy[64], time[8];
    int r;

    buf_init(&told, GUEST_TOLD_MAX);
    buf_init(&body, 1024);
    if (check_known(link, params, err) < 0) {
        return -1;
    }
    link->random(entropy, sizeof(entropy));
    for (int i = 0; i < 8; i++) {
        time[i] = (uint8_t)(params->time_ns >> (8 * i));
    }
    if (frame_put_tlv(&body, FRAME_TAG_ENTROPY, entropy, sizeof(entropy)) < 0 ||
        frame_put_tlv(&body, FRAME_TAG_TIME, time, sizeof(time)) < 0 ||
        (params->machine_id && frame_put_tlv(&body, FRAME_TAG_MACHINE_ID, params->machine_id,
                                             strlen(params->machine_id)) < 0) ||
        (params->boot_id &&
         frame_put_tlv(&body, FRAME_TAG_BOOT_ID, params->boot_id, strlen(params->boot_id)) < 0) ||
        put_network(&body, params) < 0 ||
        (params->begin_init && frame_put_tlv(&body, FRAME_TAG_INIT, "", 0) < 0) ||
        frame_put_tlv(&body, FRAME_TAG_HOSTNAME, params->hostname, strlen(params->hostname)) < 0) {
        return err_set(err, ERR_INVALID, "host name '%s' is too long", params->hostname);
    }
    r = guest_link_call(link, FRAME_CONFIGURE, "configure", buf_head(&body), body.len, &told,
                        cancel, deadline_ms, err);
    explicit_bzero(entropy, sizeof(entropy));
    return r < 0 ? r : check_identity(link, params, &told, clock_mono_ms() - start_ms, err);
}
