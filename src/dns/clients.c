#include "dns/clients.h"

#include "base/str.h"

#define FORGET_MS 60000
/* Looked at when one is added, so that the table shrinks while others come. */
#define FORGET_AT_ONCE 4

struct dns_clients {
    const struct hash_key *key;
    int64_t rate, burst;
    struct hash by_address;
    struct list used; /* least recently first */
};

struct dns_clients *dns_clients_new(const struct hash_key *key, unsigned rate, unsigned burst)
{
    struct dns_clients *cs = x_calloc(1, sizeof(*cs));

    cs->key = key;
    cs->rate = rate;
    cs->burst = burst;
    hash_init(&cs->by_address);
    list_init(&cs->used);
    return cs;
}

static void drop(struct dns_clients *cs, struct dns_client *c)
{
    hash_remove(&cs->by_address, &c->node);
    list_remove(&c->used);
    free(c);
}

void dns_clients_free(struct dns_clients *cs)
{
    if (cs) {
        while (!list_is_empty(&cs->used)) {
            drop(cs, LIST_ENTRY(cs->used.next, struct dns_client, used));
        }
        hash_done(&cs->by_address);
        free(cs);
    }
}

/* The address alone, with everything else the same for all. */
static union dns_endpoint key_of(const union dns_endpoint *from)
{
    union dns_endpoint key;

    memset(&key, 0, sizeof(key));
    key.sa.sa_family = from->sa.sa_family;
    if (from->sa.sa_family == AF_INET) {
        key.in.sin_addr = from->in.sin_addr;
    } else {
        key.in6.sin6_addr = from->in6.sin6_addr;
        key.in6.sin6_scope_id = from->in6.sin6_scope_id;
    }
    return key;
}

static void forget_some(struct dns_clients *cs, int64_t now_ms)
{
    unsigned looked = 0;

    list_for_each (it, &cs->used) {
        struct dns_client *c = LIST_ENTRY(it, struct dns_client, used);
        bool is_old = now_ms - c->filled_ms > FORGET_MS || cs->by_address.count >= CLIENTS_MAX;

        if (looked++ == FORGET_AT_ONCE) {
            break;
        }
        if (is_old && c->outstanding == 0 && c->connections == 0) {
            drop(cs, c);
        }
    }
}

struct dns_client *dns_clients_get(struct dns_clients *cs, const union dns_endpoint *from,
                                   int64_t now_ms)
{
    union dns_endpoint key = key_of(from);
    uint64_t hash = hash_bytes(cs->key, &key, sizeof(key));
    struct dns_client *c;

    for (struct hash_node *n = hash_first(&cs->by_address, hash); n; n = hash_next(n)) {
        c = HASH_ENTRY(n, struct dns_client, node);
        if (dns_endpoint_eq(&c->from, &key)) {
            list_remove(&c->used);
            list_append(&cs->used, &c->used);
            return c;
        }
    }
    forget_some(cs, now_ms);
    if (cs->by_address.count >= CLIENTS_MAX) {
        return NULL;
    }
    c = x_calloc(1, sizeof(*c));
    c->from = key;
    c->filled_ms = now_ms;
    c->tokens = cs->burst * 1000;
    hash_add(&cs->by_address, &c->node, hash);
    list_append(&cs->used, &c->used);
    return c;
}

bool dns_client_take(struct dns_clients *cs, struct dns_client *c, int64_t now_ms)
{
    int64_t full = cs->burst * 1000, missing = full - c->tokens, passed = now_ms - c->filled_ms;

    c->filled_ms = now_ms;
    /* rate tokens a second are rate thousandths a millisecond. */
    c->tokens = passed > missing / cs->rate ? full : c->tokens + passed * cs->rate;
    if (c->tokens < 1000) {
        return false;
    }
    c->tokens -= 1000;
    return true;
}
