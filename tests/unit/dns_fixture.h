/*
 * A DNS server on loopback, clients with addresses of their own in 127.0.0.0/8, and up to three
 * servers upstream that are played by the test: nothing answers but by its calls, so that it knows
 * what was asked. All waiting has the tests' patience.
 */
#pragma once

#include "dns/dns.h"
#include "scratch.h"

#define UPSTREAMS 3

struct dns_fixture {
    struct loop *loop;
    struct dns *dns;
    struct scratch scratch; /* has resolv.conf */
    uint16_t host_port, guest_port, upstream_port;
    int upstream[UPSTREAMS]; /* UDP at 127.0.0.1, .2, .3 */
    int upstream_tcp;        /* listens at 127.0.0.1 */
};

/* A message that came, with what of its header and records tests look at. */
struct dns_message {
    uint8_t data[DNS_MESSAGE_MAX];
    size_t len;
    struct dns_answer answer;
    bool aa, ra, tc, has_edns;
    unsigned answers, authorities;
    struct dns_address addresses[8];
    size_t address_count;
    uint32_t ttl_s; /* of the addresses */
};

/* A question that has come upstream. */
struct dns_upstream_query {
    struct dns_query query;
    struct sockaddr_in from;
    int fd; /* of the socket, or of the connection: then the caller closes it */
    bool tcp;
};

/* `servers` of resolv.conf's lines name upstreams 0, 1, …; params' loop, domain, ranges and
 * resolv_conf are set here, and are 77.10.in-addr.arpa and 0.0.d.f.ip6.arpa. */
struct dns_fixture dns_fixture_new(struct dns_params params, unsigned servers);
void dns_fixture_done(struct dns_fixture *fx);
#define _cleanup_dns_fixture_ _cleanup_(dns_fixture_done)
void dns_fixture_write_resolv_conf(struct dns_fixture *fx, unsigned first, unsigned count);
void dns_fixture_set(struct dns_fixture *fx, const char *id, const char *name, const char *ipv4,
                     const char *ipv6);

/* The time of a `struct clock`; starts at a million. */
extern const struct clock dns_fixture_clock;
void dns_fixture_advance(int64_t ms);

/* A socket connected to the server, from an address of 127.0.0.0/8. */
int dns_client(const struct dns_fixture *fx, int type, enum dns_kind kind, const char *address);
/* Sends a question, as a datagram or with its length before it; its id is 7 and RD is set. */
void dns_send_query(int fd, const char *name, unsigned type, bool edns);
void dns_send_bytes(int fd, const void *data, size_t len);
/* Waits for a whole message, of which just data and len are set. */
void dns_receive_bytes(int fd, struct dns_message *ret);
/* The same, of one that can be read. */
void dns_receive(int fd, struct dns_message *ret);
/* Both. */
void dns_query(int fd, const char *name, unsigned type, struct dns_message *ret);
/* Waits for the end of a stream, without another byte. */
void dns_expect_end(int fd);
/* There is nothing of upstream `index`; to be called when the server has answered what came later.
 */
void dns_expect_no_query(const struct dns_fixture *fx, unsigned index);

struct dns_upstream_query dns_upstream_take(const struct dns_fixture *fx, unsigned index);
struct dns_upstream_query dns_upstream_take_tcp(const struct dns_fixture *fx);
/* An answer with `count` addresses 192.0.2.n (for AAAA: 2001:db8::n) with a TTL; without any,
 * an SOA with it. Its length. */
size_t dns_upstream_build(const struct dns_upstream_query *q, enum dns_rcode rcode, unsigned count,
                          uint32_t ttl_s, uint8_t *ret_data);
void dns_upstream_send(const struct dns_upstream_query *q, const uint8_t *data, size_t len);
/* Both. */
void dns_upstream_reply(const struct dns_upstream_query *q, enum dns_rcode rcode, unsigned count,
                        uint32_t ttl_s);

/* A positive answer with so many addresses and that TTL. */
void dns_check_addresses(const struct dns_message *m, size_t count, uint32_t ttl_s);
/* Asks for A; upstream 0 is asked, says so many addresses, and that is what comes. */
void dns_fill(struct dns_fixture *fx, int fd, const char *name, enum dns_rcode rcode,
              unsigned count, uint32_t ttl_s);
