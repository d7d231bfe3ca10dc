/*
 * Guests by their source address, and what each has of what is limited: queries a second (a token
 * bucket), questions out, connections. At most CLIENTS_MAX are remembered; one that has nothing
 * out and was silent for longest is forgotten. Threads: the loop's.
 */
#pragma once

#include "base/list.h"
#include "dns/endpoint.h"
#include "dns/hash.h"

/* 16,000 guests with an address of each family and a link-local one. */
#define CLIENTS_MAX 65536

struct dns_clients;

struct dns_client {
    unsigned outstanding, connections; /* the users': not 0 keeps it */

    /* clients.c */
    struct hash_node node;
    struct list used;
    union dns_endpoint from; /* port 0 */
    int64_t filled_ms;       /* when the bucket was looked at, */
    int64_t tokens;          /* and what was in it, in thousandths */
};

/* key is borrowed for its life. rate a second. */
struct dns_clients *dns_clients_new(const struct hash_key *key, unsigned rate, unsigned burst);
void dns_clients_free(struct dns_clients *cs);

/* Until the next call, unless it has something out. NULL: there are too many that have. */
struct dns_client *dns_clients_get(struct dns_clients *cs, const union dns_endpoint *from,
                                   int64_t now_ms);
/* False: it is above its rate. */
bool dns_client_take(struct dns_clients *cs, struct dns_client *c, int64_t now_ms);
