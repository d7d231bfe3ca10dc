#include "dns/cache.h"

#include "base/list.h"
#include "base/str.h"

#include <string.h>

struct entry {
    struct hash_node node;
    struct list used;
    int64_t since_ms, until_ms;
    size_t len;
    struct dns_question question; /* name in lower case */
    uint8_t answer[];
};

struct dns_cache {
    const struct hash_key *key;
    struct hash entries;
    struct list used; /* least recently first */
    unsigned entries_max;
    size_t bytes, bytes_max;
};

struct dns_cache *dns_cache_new(const struct hash_key *key, unsigned entries_max, size_t bytes_max)
{
    struct dns_cache *c = x_calloc(1, sizeof(*c));

    c->key = key;
    hash_init(&c->entries);
    list_init(&c->used);
    c->entries_max = entries_max;
    c->bytes_max = bytes_max;
    return c;
}

static size_t size_of(size_t len)
{
    return sizeof(struct entry) + len;
}

static void drop(struct dns_cache *c, struct entry *e)
{
    hash_remove(&c->entries, &e->node);
    list_remove(&e->used);
    c->bytes -= size_of(e->len);
    free(e);
}

void dns_cache_clear(struct dns_cache *c)
{
    while (!list_is_empty(&c->used)) {
        drop(c, LIST_ENTRY(c->used.next, struct entry, used));
    }
}

void dns_cache_free(struct dns_cache *c)
{
    if (c) {
        dns_cache_clear(c);
        hash_done(&c->entries);
        free(c);
    }
}

/* The entry of a question, or NULL; its hash in any case. q's name is in lower case. */
static struct entry *find(const struct dns_cache *c, const struct dns_question *q,
                          uint64_t *ret_hash)
{
    uint64_t hash = hash_bytes(c->key, q->name.wire, q->name.len) + q->type;

    *ret_hash = hash;
    for (struct hash_node *n = hash_first(&c->entries, hash); n; n = hash_next(n)) {
        struct entry *e = HASH_ENTRY(n, struct entry, node);

        if (dns_question_eq(&e->question, q)) {
            return e;
        }
    }
    return NULL;
}

void dns_cache_put(struct dns_cache *c, const struct dns_question *q, const uint8_t *answer,
                   size_t len, uint32_t ttl_s, int64_t now_ms)
{
    struct dns_question lower = *q;
    struct entry *e;
    uint64_t hash;

    dns_name_lower(&lower.name);
    e = find(c, &lower, &hash);
    if (e) {
        drop(c, e);
    }
    if (ttl_s == 0 || size_of(len) > c->bytes_max / 16) {
        return;
    }
    while (c->entries.count >= c->entries_max || c->bytes + size_of(len) > c->bytes_max) {
        drop(c, LIST_ENTRY(c->used.next, struct entry, used));
    }
    e = x_calloc(1, size_of(len));
    e->since_ms = now_ms;
    e->until_ms = now_ms + (int64_t)ttl_s * 1000;
    e->len = len;
    e->question = lower;
    memcpy(e->answer, answer, len);
    hash_add(&c->entries, &e->node, hash);
    list_append(&c->used, &e->used);
    c->bytes += size_of(len);
}

const uint8_t *dns_cache_get(struct dns_cache *c, const struct dns_question *q, int64_t now_ms,
                             size_t *ret_len, uint32_t *ret_age_s)
{
    struct dns_question lower = *q;
    struct entry *e;
    uint64_t hash;

    dns_name_lower(&lower.name);
    e = find(c, &lower, &hash);
    if (!e) {
        return NULL;
    }
    if (now_ms >= e->until_ms) {
        drop(c, e);
        return NULL;
    }
    list_remove(&e->used);
    list_append(&c->used, &e->used);
    *ret_len = e->len;
    *ret_age_s = (uint32_t)((now_ms - e->since_ms) / 1000);
    return e->answer;
}

unsigned dns_cache_count(const struct dns_cache *c)
{
    return (unsigned)c->entries.count;
}

size_t dns_cache_bytes(const struct dns_cache *c)
{
    return c->bytes;
}
