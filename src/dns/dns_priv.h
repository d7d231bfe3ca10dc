/*
 * Between the parts of the DNS server. A question's way: listener.c or connection.c -> dns_ask
 * (ask.c) -> zone.c, cache.c or forward.c -> dns_answer_to (ask.c) -> back.
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "dns/cache.h"
#include "dns/clients.h"
#include "dns/dns.h"
#include "dns/endpoint.h"
#include "dns/hash.h"
#include "dns/upstreams.h"

/* Of a query, over UDP or TCP. Real ones have less than DNS_QUERY_MAX and some padding. */
#define QUERY_BYTES_MAX 4096

struct dns_names {
    struct hash by_id, by_name, by_address;
    uint32_t serial; /* grows with each change */
};

struct dns {
    /* immutable */
    struct dns_params params; /* its pointers to strings and ranges are our copies */
    struct dns_name domain, mailbox, localhost;
    struct hash_key key;

    /* under lock */
    struct lock lock; /* rank leaf */
    struct dns_names names;
    struct dns_stats stats;

    /* loop thread */
    struct list listeners;
    struct dns_clients *clients;
    struct dns_cache *cache;
    struct dns_upstreams *upstreams;
    struct hash forwards_by_question;
    struct list forwards;
    unsigned outstanding;           /* clients that wait for upstream */
    uint8_t reply[DNS_MESSAGE_MAX]; /* being written */
};

/* Loop thread. */
struct dns_listener {
    struct list node;
    struct dns *dns;
    enum dns_kind kind;
    int udp_fd, tcp_fd;
    struct loop_source *udp, *tcp, *accept_again;
    union dns_endpoint bound;
    struct list connections; /* that was active least recently, first */
    unsigned connection_count;
};

struct dns_connection {
    struct list node;
    struct dns_listener *listener;
    struct dns_client *client; /* NULL of the host */
    union dns_endpoint from;
    int fd;
    struct loop_source *source, *timer;
    struct buf in, out;
    struct list waiting; /* struct dns_waiter */
    bool has_ended;      /* the client sends no more */
    bool has_failed;     /* to be closed by its timer, as callers up the stack still use it */
};

/* Who asked, and how it is answered. */
struct dns_asker {
    struct dns_listener *listener;
    struct dns_connection *connection; /* NULL: UDP */
    struct dns_client *client;         /* NULL of the host */
    union dns_endpoint from;
    struct dns_local local; /* the address that was asked, over UDP */
};

/* Waits for a forward. */
struct dns_waiter {
    struct list node;          /* the forward's */
    struct list of_connection; /* linked if by TCP and it is still there */
    struct dns_asker asker;
    struct dns_query query;
};

#define COUNT(d, counter) dns_count(d, &(d)->stats.counter)
void dns_count(struct dns *d, uint64_t *counter) EXCLUDES(rank_leaf);

/* ---- names.c ---- */

void dns_names_init(struct dns_names *n);
void dns_names_done(struct dns_names *n);
/* label: its length, then its bytes, in either case. The addresses of a name, 1 or 2; 0: there is
 * no such name. */
size_t dns_names_find(struct dns *d, const uint8_t *label, struct dns_address ret_addresses[2])
    EXCLUDES(rank_leaf);
/* The full name of an address. */
bool dns_names_find_address(struct dns *d, const struct dns_address *a, struct dns_name *ret_name)
    EXCLUDES(rank_leaf);
uint32_t dns_names_serial(struct dns *d) EXCLUDES(rank_leaf);

/* ---- zone.c ---- */

/* Writes the reply to what is asked of our zones, and of localhost where `flags` have RA. 0: it is
 * not ours. */
size_t dns_zone_answer(struct dns *d, const struct dns_query *q, uint16_t flags, uint8_t *ret_data,
                       size_t limit) EXCLUDES(rank_leaf);

/* ---- ask.c ---- */

/* A message has come. */
void dns_ask(struct dns *d, struct dns_asker *asker, const uint8_t *data, size_t len)
    EXCLUDES(rank_leaf);
void dns_answer_error(struct dns *d, const struct dns_asker *asker, const struct dns_query *q,
                      enum dns_rcode rcode) EXCLUDES(rank_leaf);
/* From kept_len bytes of an upstream's answer. */
void dns_answer_to(struct dns *d, const struct dns_asker *asker, const struct dns_query *q,
                   const uint8_t *answer, size_t kept_len, uint32_t age_s) EXCLUDES(rank_leaf);

/* ---- forward.c ---- */

/* Asks upstream, or joins who asked the same. The client is answered then, or was already.
 * -EBUSY: it has too many questions out, or all have. -ENONET: there is nobody to ask. */
int dns_forward(struct dns *d, const struct dns_asker *asker, const struct dns_query *q)
    EXCLUDES(rank_leaf);
/* Ends all without an answer. */
void dns_forwards_end(struct dns *d);

/* ---- listener.c ---- */

void dns_listener_free(struct dns_listener *l);
void dns_listener_send(struct dns_listener *l, const struct dns_asker *asker, const uint8_t *data,
                       size_t len);

/* ---- connection.c ---- */

/* Takes fd. */
void dns_connection_new(struct dns_listener *l, int fd, struct dns_client *client,
                        const union dns_endpoint *from);
/* Not from within its own reading. */
void dns_connection_free(struct dns_connection *c);
/* The connection stays, even if it is broken. */
void dns_connection_send(struct dns_connection *c, const uint8_t *data, size_t len);
/* One of its waiters has been answered. */
void dns_connection_check_ended(struct dns_connection *c);
