/*
 * banger's own DNS server: `<name>.<domain>` and all below it for the VMs it is told of, their
 * reverse names, and for guests all other names, asked from the servers of a resolv.conf and kept
 * in a cache.
 *
 * Owner of the name table, of the listeners, of the questions that are out and of the cache. Lock:
 * a leaf, for the table and the counters. Threads: any, for what is declared here. Everything else
 * is the loop's thread's, which never waits: sockets do not block, each wake-up has a budget, and
 * the one file that is read is a local resolv.conf. Failure: dns_open, dns_listen and dns_set_name
 * fill `struct err`; what goes wrong with a query is its answer, and a counter.
 *
 * Who gets what:
 *
 *     our zone, our reverse names    everybody, with AA
 *     localhost and below            guests, the loopback addresses (RFC 6761, 6.3)
 *     other names, class IN, RD      guests, from the cache or upstream
 *     anything else                  REFUSED
 *
 * A server upstream that is a listener of ours is not asked. One at an address that is ours just
 * because a listener has any address is not known for it: its questions come back to us, and end
 * at the limits.
 *
 * Limits of guests are by source address, which the host's network has to guarantee:
 *
 *     too many queries a second      UDP: dropped, as an answer costs more than the query did;
 *                                    TCP: REFUSED
 *     too many questions out         REFUSED. A guest's limit falls to a quarter of what is free of
 *                                    the limit for all, so that a few cannot use it up
 *     more than this thread reads    lost in the socket, whoever's it is: packets a second are for
 *                                    the network to limit
 *     too many connections           guests: closed at once. Beyond the limit of a listener the
 *                                    connection is closed that has been idle for longest
 */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/thread.h"
#include "codec/dns.h"

#include <netinet/in.h>

/* TTL of our own answers. VMs come and go, and a name may be another VM's within seconds; who asks
 * again asks over no wire. That a name is not there is believed for less: the usual reason to ask
 * for one is that it has just been made. */
#define DNS_OWN_TTL_S 5
#define DNS_OWN_NEGATIVE_TTL_S 1
/* Of what is cached. An upstream's mistake, or the end of a guest's patience, is over in an hour;
 * and what was just registered is found after a minute. */
#define DNS_CACHE_TTL_MAX_S 3600
#define DNS_CACHE_NEGATIVE_TTL_MAX_S 60

#define DNS_NAMES_MAX 65536
#define DNS_UPSTREAMS_MAX 3  /* as resolv.conf(5) has it */
#define DNS_TRIES_MAX 3      /* upstream, for one question */
#define DNS_ADDRESSES_MAX 64 /* that dns_answer_fn is told of at once */

struct dns;

/* A range of addresses whose reverse names are ours: those without a name do not exist. */
struct dns_range {
    struct dns_address address;
    unsigned prefix; /* at least 8 */
};

/* A guest is about to be told these addresses of the name, for ttl_s; a longer list comes in
 * several calls. */
struct dns_told {
    const struct sockaddr *client;
    const char *name; /* as it asked, dns_name_to_text */
    const struct dns_address *addresses;
    size_t count;
    uint32_t ttl_s;
    bool is_own; /* of our zone, or localhost */
};
/* On the loop's thread, before the reply is sent, without a lock. Must not wait. */
typedef void (*dns_answer_fn)(void *arg, const struct dns_told *told);

/* Numbers that are 0 have the default that is named. */
struct dns_params {
    struct loop *loop;
    const char *domain; /* "vm" */
    const struct dns_range *ranges;
    size_t range_count;
    const char *resolv_conf; /* path; NULL: nobody is asked, other names are SERVFAIL */
    dns_answer_fn on_answer; /* may be NULL */
    void *on_answer_arg;

    unsigned guest_rate;        /* queries a second and guest, 200 */
    unsigned guest_burst;       /* 400 */
    unsigned guest_outstanding; /* questions upstream and guest, 64 */
    unsigned outstanding_max;   /* for all, 1024; a descriptor each */
    unsigned try_timeout_ms;    /* until the next upstream is asked, 2000 */
    uint16_t upstream_port;     /* 53 */
    unsigned cache_entries;     /* 4096 */
    size_t cache_bytes;         /* 4 MiB */
    unsigned tcp_max;           /* connections of a listener, 256 */
    unsigned tcp_guest_max;     /* of a guest, 16 */
    unsigned tcp_idle_ms;       /* without a whole message either way, 10000 */

    const struct clock *clock; /* for ages and rates; NULL: clock_system */
    random_fn random;          /* NULL: random_bytes */
};

/* ERR_INVALID: the domain or a range is none. Strings and ranges are copied. */
int dns_open(const struct dns_params *params, struct dns **ret_dns, struct err *err)
    EXCLUDES(rank_leaf);
/* Ends listeners, connections and questions, and frees; nobody may use it any more. Not on the
 * loop's thread. Accepts NULL. */
void dns_close(struct dns *d) EXCLUDES(rank_leaf);

/* ---- names ---- */

/* The name, a DNS label in lower case, and its addresses are those of `id` from now on, in place
 * of what it had. INADDR_ANY and NULL are no address. ERR_INVALID; ERR_ALREADY_EXISTS: another id
 * has the name or an address; ERR_LIMIT: DNS_NAMES_MAX. */
int dns_set_name(struct dns *d, const char *id, const char *name, struct in_addr ipv4,
                 const struct in6_addr *ipv6, struct err *err) EXCLUDES(rank_leaf);
/* Nothing when it is not known. */
void dns_remove_name(struct dns *d, const char *id) EXCLUDES(rank_leaf);

/* ---- listeners ---- */

enum dns_kind {
    DNS_HOST,  /* for programs of this host: our zones only */
    DNS_GUEST, /* for guests: all names */
};

/* Answers on UDP and TCP at an address until dns_close. Port 0 takes a free one; *ret_port (may be
 * NULL) is which. ERR_IO: the address cannot be had. */
int dns_listen(struct dns *d, const struct sockaddr *addr, enum dns_kind kind, uint16_t *ret_port,
               struct err *err) EXCLUDES(rank_leaf);
/* The same on two sockets that are bound already, the second listens. Takes both, also when it
 * fails. */
int dns_serve(struct dns *d, int udp_fd, int tcp_fd, enum dns_kind kind, struct err *err)
    EXCLUDES(rank_leaf);

/* ---- statistics ---- */

struct dns_stats {
    uint64_t queries;       /* that came, but those that were dropped */
    uint64_t dropped;       /* over the rate, or no query at all */
    uint64_t from_zone;     /* answered, negatively too */
    uint64_t from_cache;    /* the same */
    uint64_t from_upstream; /* the same */
    uint64_t refused;
    uint64_t malformed;         /* FORMERR, NOTIMP, BADVERS */
    uint64_t failed;            /* SERVFAIL */
    uint64_t upstream_tries;    /* questions sent */
    uint64_t upstream_timeouts; /* of these, and refused connections */
    uint64_t strays;            /* replies that answered no question of ours */
    unsigned names;             /* in the table now */
};
void dns_get_stats(struct dns *d, struct dns_stats *ret_stats) EXCLUDES(rank_leaf);
