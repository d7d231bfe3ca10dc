/*
 * DNS messages: RFC 1035 (4.1: format, 4.1.4: compression), 2308 (negative answers), 3596 (AAAA,
 * ip6.arpa), 4343 (case), 6891 (EDNS). Pure: bytes <-> structs, no allocation. Both sides are
 * hostile, guests and servers upstream: lengths are checked, compression only points backwards.
 *
 *     a query that came       dns_query_parse, then dns_reply_begin … dns_reply_end
 *     a query upstream        dns_query_build, then dns_answer_parse of what comes back, and
 *                             dns_reply_from_answer to hand it on, now or later
 *
 * Numbers in structs are the host's; types, classes and rcodes are IANA's. Failure: -EBADMSG for
 * bytes that are no such message. Threads: any.
 */
#pragma once

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

#define DNS_HEADER_SIZE 12
#define DNS_NAME_MAX 255 /* bytes of a name on the wire, the root's included */
#define DNS_LABEL_MAX 63
#define DNS_TEXT_SIZE 1024 /* of a name as text: each byte may become \DDD */
/* What a query and a reply without records have at the most. */
#define DNS_QUERY_MAX (DNS_HEADER_SIZE + DNS_NAME_MAX + 4 + 11)
#define DNS_UDP_PLAIN 512 /* of a reply to who has no EDNS */
#define DNS_UDP_MAX 1232  /* with EDNS: fits the smallest MTU of IPv6, so nothing is fragmented */
#define DNS_MESSAGE_MAX 65535
#define DNS_TTL_MAX 0x7FFFFFFFU

enum dns_type {
    DNS_A = 1,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_PTR = 12,
    DNS_AAAA = 28,
    DNS_OPT = 41,
    DNS_TKEY = 249, /* from here to 254: not types of records, but requests */
    DNS_MAILA = 254,
    DNS_ANY = 255,
};

#define DNS_CLASS_IN 1

enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16, /* above 15: partly in OPT */
};

/* ---- names ---- */

/* A name as on the wire, not compressed: labels with their lengths, the root's 0 last. A label may
 * hold any byte, dots too. */
struct dns_name {
    uint8_t len; /* 1 to 255 */
    uint8_t wire[DNS_NAME_MAX];
};

/* An address of a record or of a reverse name. */
struct dns_address {
    int family; /* AF_INET or AF_INET6 */
    uint8_t bytes[16];
};

/* "a.b.c", a dot at the end or not, no escapes; "." is the root. 0 or -EINVAL. */
int dns_name_from_text(const char *text, struct dns_name *ret_name);
/* As in a zone file: "a.b.c", other bytes than letters, digits, - and _ as \DDD; the root is ".".
 */
void dns_name_to_text(const struct dns_name *name, char ret_text[DNS_TEXT_SIZE]);
void dns_name_lower(struct dns_name *name);
/* Letters of either case are equal (RFC 4343), as everywhere below. */
bool dns_name_eq(const struct dns_name *a, const struct dns_name *b);
/* Where in name->wire the name `zone` begins, 0 when they are equal; -1: name is not below it. */
int dns_name_find_zone(const struct dns_name *name, const struct dns_name *zone);

/* Reads the name at *offset of a message and moves behind it. 0 or -EBADMSG. */
int dns_name_parse(const uint8_t *data, size_t len, size_t *offset, struct dns_name *ret_name);

/* What a name below in-addr.arpa or ip6.arpa says. */
struct dns_reverse {
    struct dns_address address; /* the first `bits` of it; the rest is 0 */
    unsigned bits;              /* 0 to 32 or 128, in steps of 8 or 4 */
    bool has_rest;              /* there are labels below that are no part of an address */
};
/* 0, or -EINVAL when it is below neither. */
int dns_name_to_reverse(const struct dns_name *name, struct dns_reverse *ret_reverse);

/* ---- queries that come ---- */

struct dns_question {
    struct dns_name name; /* in the case it came in */
    uint16_t type, class;
};

struct dns_query {
    uint16_t id;
    uint16_t flags;    /* the header's */
    uint16_t rcode;    /* NOERROR, or what it must be answered with: FORMERR, NOTIMP, BADVERS */
    uint16_t udp_size; /* that the client can take, if has_edns */
    bool has_edns;
    bool has_question; /* else the rest is not filled, and rcode is no NOERROR */
    struct dns_question question;
};

/* Whether the client asks for recursion (RD). */
bool dns_query_wants_recursion(const struct dns_query *q);
/* 0, also for what is answered with an error. -EBADMSG: it gets no answer (shorter than a header,
 * or a reply itself, which two servers could send each other for ever). */
int dns_query_parse(const uint8_t *data, size_t len, struct dns_query *ret_query);

/* ---- replies ---- */

/* How large a reply to q may be. */
size_t dns_reply_limit(const struct dns_query *q, bool tcp);

#define DNS_FLAG_AA 0x0400 /* from our own zone */
#define DNS_FLAG_TC 0x0200
#define DNS_FLAG_RD 0x0100
#define DNS_FLAG_RA 0x0080 /* this server asks others */

/* Being written; data and query are the caller's and stay until the end. */
struct dns_reply {
    uint8_t *data;
    size_t limit, len;
    const struct dns_query *query;
    uint16_t rcode, flags, answers, authorities;
};

/* Answer comes before authority. */
enum dns_section { DNS_ANSWER, DNS_AUTHORITY };

struct dns_soa {
    const struct dns_name *zone, *server, *mailbox;
    uint32_t serial;
    uint32_t negative_ttl_s; /* for how long it may be believed that something is not there */
};

/* limit ≥ DNS_UDP_PLAIN bytes are at data. flags: DNS_FLAG_AA, DNS_FLAG_RA. A record that does not
 * fit is left out with all after it, and sets TC. Records belong to the name that was asked for. */
void dns_reply_begin(struct dns_reply *r, uint8_t *data, size_t limit, const struct dns_query *q,
                     enum dns_rcode rcode, uint16_t flags);
void dns_reply_add_address(struct dns_reply *r, const struct dns_address *a, uint32_t ttl_s);
void dns_reply_add_ptr(struct dns_reply *r, const struct dns_name *target, uint32_t ttl_s);
void dns_reply_add_soa(struct dns_reply *r, enum dns_section section, const struct dns_soa *soa);
/* The reply's length. */
size_t dns_reply_end(struct dns_reply *r);

/* ---- upstream ---- */

/* Writes a query with RD, and with EDNS for DNS_UDP_MAX bytes or without. Its length. */
size_t dns_query_build(uint8_t ret_data[DNS_QUERY_MAX], uint16_t id, const struct dns_question *q,
                       bool edns);

/* What a forwarder has to know of an answer. */
struct dns_answer {
    uint16_t id;
    uint16_t rcode;
    bool is_truncated; /* TC: nothing behind the question was looked at */
    bool has_question; /* only errors may come without */
    bool is_negative;  /* no such name, or no record of that type */
    bool is_cacheable; /* there is a TTL; of a negative one, there is an SOA */
    uint32_t ttl_s;    /* the least of the answer's records, and of the SOA (RFC 2308, 5) */
    size_t kept_len;   /* bytes up to the end of the authority section */
    struct dns_question question;
};

/* 0 or -EBADMSG. All records are walked. */
int dns_answer_parse(const uint8_t *data, size_t len, struct dns_answer *ret_answer);
bool dns_question_eq(const struct dns_question *a, const struct dns_question *b);

/* Writes the reply to q from the first kept_len bytes of an answer to the same question that
 * dns_answer_parse took: header, question and OPT as q needs them, all TTLs less age_s. The
 * additional section is left out. What exceeds limit becomes a reply with TC and no record.
 * limit bytes are at ret_data. Its length. */
size_t dns_reply_from_answer(uint8_t *ret_data, size_t limit, const struct dns_query *q,
                             const uint8_t *answer, size_t kept_len, uint32_t age_s);

/* The addresses (of the type asked for) that a message gives to the name that it was asked for,
 * over CNAMEs in the order in which they are used; the least TTL on the way. At most max, without
 * the first `skip`; the count. */
size_t dns_answer_addresses(const uint8_t *data, size_t len, size_t skip, size_t max,
                            struct dns_address *ret_addresses, uint32_t *ret_ttl_s);
