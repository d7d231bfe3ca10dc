/*
 * Chained hash table of nodes inside of structs, which grows with them. Keys are what guests
 * chose, so the hash is keyed with random bytes (SipHash-1-3: nobody finds names of one chain).
 * Threads: the owner's.
 */
#pragma once

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

struct hash_node {
    struct hash_node *next;
    uint64_t hash;
};

struct hash {
    struct hash_node **buckets;
    size_t size, count; /* size: a power of two */
};

struct hash_key {
    uint64_t k[2];
};

void hash_init(struct hash *h);
/* Nodes that are left are the caller's. */
void hash_done(struct hash *h);

uint64_t hash_bytes(const struct hash_key *key, const void *data, size_t len);

/* Puts in a node with its hash; there is none with an equal key. */
void hash_add(struct hash *h, struct hash_node *node, uint64_t hash);
void hash_remove(struct hash *h, struct hash_node *node);
/* The first node with this hash, and the next: the caller compares keys. NULL: no more. */
struct hash_node *hash_first(const struct hash *h, uint64_t hash);
struct hash_node *hash_next(const struct hash_node *node);

#define HASH_ENTRY(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))
