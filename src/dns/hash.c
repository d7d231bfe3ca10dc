#include "dns/hash.h"

#include "base/str.h"

#include <assert.h>
#include <string.h>

#define SIZE_MIN 64

void hash_init(struct hash *h)
{
    h->buckets = x_calloc(SIZE_MIN, sizeof(struct hash_node *));
    h->size = SIZE_MIN;
    h->count = 0;
}

void hash_done(struct hash *h)
{
    free(STEAL_PTR(h->buckets));
    h->size = h->count = 0;
}

/* ---- SipHash-1-3 (Aumasson, Bernstein: SipHash, 2012) ---- */

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t hash_bytes(const struct hash_key *key, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t v[4] = {
        key->k[0] ^ 0x736f6d6570736575,
        key->k[1] ^ 0x646f72616e646f6d,
        key->k[0] ^ 0x6c7967656e657261,
        key->k[1] ^ 0x7465646279746573,
    };
    uint64_t last = (uint64_t)len << 56;
    size_t left = len;

    for (; left >= 8; left -= 8, p += 8) {
        uint64_t m;

        memcpy(&m, p, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    for (size_t i = 0; i < left; i++) {
        last |= (uint64_t)p[i] << (8 * i);
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- the table ---- */

static void link_node(struct hash *h, struct hash_node *node)
{
    struct hash_node **bucket = &h->buckets[node->hash & (h->size - 1)];

    node->next = *bucket;
    *bucket = node;
}

static void grow(struct hash *h)
{
    struct hash larger = {.size = h->size * 2};

    larger.buckets = x_calloc(larger.size, sizeof(struct hash_node *));
    for (size_t i = 0; i < h->size; i++) {
        while (h->buckets[i]) {
            struct hash_node *node = h->buckets[i];

            h->buckets[i] = node->next;
            link_node(&larger, node);
        }
    }
    free(h->buckets);
    h->buckets = larger.buckets;
    h->size = larger.size;
}

void hash_add(struct hash *h, struct hash_node *node, uint64_t hash)
{
    if (h->count == h->size) {
        grow(h);
    }
    node->hash = hash;
    link_node(h, node);
    h->count++;
}

void hash_remove(struct hash *h, struct hash_node *node)
{
    struct hash_node **at = &h->buckets[node->hash & (h->size - 1)];

    while (*at != node) {
        assert(*at);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    h->count--;
}

static struct hash_node *find(struct hash_node *node, uint64_t hash)
{
    while (node && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct hash_node *hash_first(const struct hash *h, uint64_t hash)
{
    return find(h->buckets[hash & (h->size - 1)], hash);
}

struct hash_node *hash_next(const struct hash_node *node)
{
    return find(node->next, node->hash);
}
