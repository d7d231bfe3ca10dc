/* From a message that came to who answers it, and back. */
#include "dns/dns_priv.h"

#include <errno.h>

void dns_count(struct dns *d, uint64_t *counter)
{
    leaf_lock(&d->lock);
    (*counter)++;
    leaf_unlock(&d->lock);
}

static bool is_tcp(const struct dns_asker *a)
{
    return a->connection != NULL;
}

/* Tells the owner's hook which addresses a guest is about to have. */
static void tell(struct dns *d, const struct dns_asker *asker, const struct dns_query *q,
                 const uint8_t *reply, size_t len, bool is_own)
{
    struct dns_address addresses[DNS_ADDRESSES_MAX];
    char name[DNS_TEXT_SIZE];
    struct dns_told told = {
        .client = &asker->from.sa,
        .name = name,
        .addresses = addresses,
        .is_own = is_own,
    };

    if (asker->listener->kind != DNS_GUEST || !d->params.on_answer) {
        return;
    }
    dns_name_to_text(&q->question.name, name);
    for (size_t skip = 0;; skip += told.count) {
        told.count =
            dns_answer_addresses(reply, len, skip, ARRAY_LEN(addresses), addresses, &told.ttl_s);
        if (told.count == 0) {
            return;
        }
        d->params.on_answer(d->params.on_answer_arg, &told);
    }
}

static void send_reply(struct dns *d, const struct dns_asker *asker, size_t len)
{
    if (is_tcp(asker)) {
        dns_connection_send(asker->connection, d->reply, len);
    } else {
        dns_listener_send(asker->listener, asker, d->reply, len);
    }
}

static uint16_t flags_of(const struct dns_asker *asker)
{
    return asker->listener->kind == DNS_GUEST ? DNS_FLAG_RA : 0;
}

void dns_answer_error(struct dns *d, const struct dns_asker *asker, const struct dns_query *q,
                      enum dns_rcode rcode)
{
    struct dns_reply r;

    if (rcode == DNS_REFUSED) {
        COUNT(d, refused);
    } else if (rcode == DNS_SERVFAIL) {
        COUNT(d, failed);
    } else {
        COUNT(d, malformed);
    }
    dns_reply_begin(&r, d->reply, dns_reply_limit(q, is_tcp(asker)), q, rcode, flags_of(asker));
    send_reply(d, asker, dns_reply_end(&r));
}

void dns_answer_to(struct dns *d, const struct dns_asker *asker, const struct dns_query *q,
                   const uint8_t *answer, size_t kept_len, uint32_t age_s)
{
    size_t len = dns_reply_from_answer(d->reply, dns_reply_limit(q, is_tcp(asker)), q, answer,
                                       kept_len, age_s);

    tell(d, asker, q, d->reply, len, false);
    send_reply(d, asker, len);
}

static bool answer_from_zone(struct dns *d, const struct dns_asker *asker,
                             const struct dns_query *q)
{
    size_t len =
        dns_zone_answer(d, q, flags_of(asker), d->reply, dns_reply_limit(q, is_tcp(asker)));

    if (len == 0) {
        return false;
    }
    COUNT(d, from_zone);
    tell(d, asker, q, d->reply, len, true);
    send_reply(d, asker, len);
    return true;
}

static bool answer_from_cache(struct dns *d, const struct dns_asker *asker,
                              const struct dns_query *q)
{
    const uint8_t *answer;
    uint32_t age_s;
    size_t len;

    /* What other servers said may be wrong now: another network, or a VPN. */
    if (dns_upstreams_refresh(d->upstreams)) {
        dns_cache_clear(d->cache);
    }
    answer = dns_cache_get(d->cache, &q->question, d->params.clock->boot_ms(), &len, &age_s);
    if (!answer) {
        return false;
    }
    COUNT(d, from_cache);
    dns_answer_to(d, asker, q, answer, len, age_s);
    return true;
}

/* Whether others may be asked: who does not want recursion wants to see what is in the cache. */
static bool may_forward(const struct dns_asker *asker, const struct dns_query *q)
{
    return asker->listener->kind == DNS_GUEST && dns_query_wants_recursion(q) &&
           q->question.class == DNS_CLASS_IN &&
           (q->question.type < DNS_TKEY || q->question.type > DNS_MAILA);
}

/* False: the guest is above its rate. */
static bool is_within_rate(struct dns *d, const struct dns_asker *asker)
{
    return !asker->client || dns_client_take(d->clients, asker->client, d->params.clock->mono_ms());
}

void dns_ask(struct dns *d, struct dns_asker *asker, const uint8_t *data, size_t len)
{
    bool within_rate = is_within_rate(d, asker);
    struct dns_query q;
    int r;

    if ((!within_rate && !is_tcp(asker)) || dns_query_parse(data, len, &q) < 0) {
        COUNT(d, dropped);
        return;
    }
    COUNT(d, queries);
    if (!within_rate) {
        dns_answer_error(d, asker, &q, DNS_REFUSED);
        return;
    }
    if (q.rcode != DNS_NOERROR) {
        dns_answer_error(d, asker, &q, q.rcode);
        return;
    }
    if (answer_from_zone(d, asker, &q)) {
        return;
    }
    if (!may_forward(asker, &q)) {
        dns_answer_error(d, asker, &q, DNS_REFUSED);
        return;
    }
    if (answer_from_cache(d, asker, &q)) {
        return;
    }
    r = dns_forward(d, asker, &q);
    if (r < 0) {
        dns_answer_error(d, asker, &q, r == -EBUSY ? DNS_REFUSED : DNS_SERVFAIL);
    }
}
