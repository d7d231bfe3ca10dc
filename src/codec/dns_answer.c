/* Queries to servers upstream, and their answers. */
#include "codec/dns_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

size_t dns_query_build(uint8_t ret_data[DNS_QUERY_MAX], uint16_t id, const struct dns_question *q,
                       bool edns)
{
    struct dns_header h = {
        .id = id,
        .flags = DNS_FLAG_RD,
        .questions = 1,
        .additionals = edns,
    };
    size_t len = DNS_HEADER_SIZE;

    dns_header_write(ret_data, &h);
    len += dns_question_write(ret_data + len, q);
    if (edns) {
        len += dns_opt_write(ret_data + len, DNS_UDP_MAX, 0);
    }
    return len;
}

bool dns_question_eq(const struct dns_question *a, const struct dns_question *b)
{
    return a->type == b->type && a->class == b->class && dns_name_eq(&a->name, &b->name);
}

/* A TTL with the upper bit is 0 (RFC 2181, 8). */
static uint32_t ttl_of(const struct dns_record *r)
{
    return r->ttl_s > DNS_TTL_MAX ? 0 : r->ttl_s;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The last number of an SOA. */
static int soa_minimum(const uint8_t *data, const struct dns_record *r, uint32_t *ret_s)
{
    size_t at = r->data, end = r->data + r->len;
    struct dns_name name;

    for (int i = 0; i < 2; i++) { /* of the server, and the mailbox */
        if (dns_name_parse(data, end, &at, &name) < 0) {
            return -EBADMSG;
        }
    }
    if (end - at != 20) {
        return -EBADMSG;
    }
    *ret_s = dns_get_32(data + at + 16);
    return 0;
}

struct walk {
    uint32_t ttl_s; /* DNS_TTL_MAX + 1: none yet */
    bool has_asked; /* a record of the type asked for */
    bool has_soa;
    uint32_t soa_ttl_s;
};

static int take_answer_record(const struct dns_record *r, const struct dns_answer *a,
                              struct walk *w)
{
    if (r->type == DNS_OPT) {
        return -EBADMSG;
    }
    w->ttl_s = least(w->ttl_s, ttl_of(r));
    w->has_asked |= r->type == a->question.type || a->question.type == DNS_ANY;
    return 0;
}

static int take_authority_record(const uint8_t *data, const struct dns_record *r, struct walk *w)
{
    uint32_t minimum_s;

    if (r->type == DNS_OPT) {
        return -EBADMSG;
    }
    if (r->type == DNS_SOA && !w->has_soa) {
        if (soa_minimum(data, r, &minimum_s) < 0) {
            return -EBADMSG;
        }
        w->has_soa = true;
        w->soa_ttl_s = least(ttl_of(r), minimum_s);
    }
    return 0;
}

/* All records of all sections, from *offset on. */
static int take_records(const uint8_t *data, size_t len, const struct dns_header *h, size_t at,
                        struct dns_answer *a, struct walk *w)
{
    unsigned kept = (unsigned)h->answers + h->authorities;

    a->kept_len = at;
    for (unsigned i = 0; i < kept + h->additionals; i++) {
        struct dns_record r;

        if (dns_record_parse(data, len, &at, &r) < 0) {
            return -EBADMSG;
        }
        if (i >= kept) {
            if (r.type == DNS_OPT) {
                a->rcode = (uint16_t)(a->rcode | (r.ttl_s >> 24) << 4);
            }
            continue;
        }
        a->kept_len = at;
        if ((i < h->answers ? take_answer_record(&r, a, w) : take_authority_record(data, &r, w)) <
            0) {
            return -EBADMSG;
        }
    }
    return 0;
}

static void judge(struct dns_answer *a, const struct walk *w)
{
    uint32_t ttl_s = w->ttl_s;

    if (a->rcode != DNS_NOERROR && a->rcode != DNS_NXDOMAIN) {
        return;
    }
    a->is_negative = a->rcode == DNS_NXDOMAIN || !w->has_asked;
    a->is_cacheable = a->is_negative ? w->has_soa : true;
    if (a->is_negative) {
        ttl_s = least(ttl_s, w->soa_ttl_s);
    }
    a->ttl_s = a->is_cacheable ? ttl_s : 0;
}

int dns_answer_parse(const uint8_t *data, size_t len, struct dns_answer *ret_answer)
{
    struct walk w = {.ttl_s = DNS_TTL_MAX + 1};
    struct dns_answer a = {0};
    size_t at = DNS_HEADER_SIZE;
    struct dns_header h;

    if (len < DNS_HEADER_SIZE) {
        return -EBADMSG;
    }
    h = dns_header_read(data);
    if ((h.flags & (DNS_FLAG_QR | DNS_OPCODE_MASK)) != DNS_FLAG_QR || h.questions > 1) {
        return -EBADMSG;
    }
    a.id = h.id;
    a.rcode = h.flags & DNS_RCODE_MASK;
    a.is_truncated = h.flags & DNS_FLAG_TC;
    a.has_question = h.questions == 1;
    if (!a.has_question) {
        /* From servers that did not understand even that much. */
        a.kept_len = at;
        *ret_answer = a;
        return a.rcode == DNS_NOERROR || a.rcode == DNS_NXDOMAIN ? -EBADMSG : 0;
    }
    if (dns_question_parse(data, len, &at, &a.question) < 0) {
        return -EBADMSG;
    }
    a.kept_len = at;
    if (!a.is_truncated) {
        if (take_records(data, len, &h, at, &a, &w) < 0) {
            return -EBADMSG;
        }
        judge(&a, &w);
    }
    *ret_answer = a;
    return 0;
}

/* Takes age_s from the TTL of each record from `at` on. An SOA that says how long something is not
 * there says so by the lesser of two numbers. A server that means no good may have made a name of
 * bytes of a TTL, which is another name now, or none: no more than it can do in the rdata that
 * nobody reads here. */
static void age(uint8_t *data, size_t len, size_t at, unsigned answers, uint32_t age_s)
{
    struct dns_record r;

    for (unsigned i = 0; at < len && dns_record_parse(data, len, &at, &r) == 0; i++) {
        uint32_t ttl_s = ttl_of(&r), minimum_s;

        if (i >= answers && r.type == DNS_SOA && soa_minimum(data, &r, &minimum_s) == 0) {
            ttl_s = least(ttl_s, minimum_s);
        }
        dns_set_32(data + r.ttl_at, ttl_s > age_s ? ttl_s - age_s : 0);
    }
}

size_t dns_reply_from_answer(uint8_t *ret_data, size_t limit, const struct dns_query *q,
                             const uint8_t *answer, size_t kept_len, uint32_t age_s)
{
    struct dns_header h = dns_header_read(answer);
    size_t head = DNS_HEADER_SIZE + q->question.name.len + 4U;
    struct dns_reply r;

    assert(q->has_question && kept_len >= head);
    dns_reply_begin(&r, ret_data, limit, q, h.flags & DNS_RCODE_MASK, DNS_FLAG_RA);
    if ((h.flags & DNS_FLAG_TC) || r.limit < kept_len) {
        r.flags |= DNS_FLAG_TC;
        return dns_reply_end(&r);
    }
    /* A question cannot be compressed, so both have the same length, and what points into the one
     * points into the other. */
    memcpy(ret_data + head, answer + head, kept_len - head);
    if (age_s > 0) {
        age(ret_data, kept_len, head, h.answers, age_s);
    }
    r.len = kept_len;
    r.answers = h.answers;
    r.authorities = h.authorities;
    return dns_reply_end(&r);
}

/* Whether a record is an address that was asked for; then it is read. */
static bool take_address(const uint8_t *data, const struct dns_record *r,
                         const struct dns_question *q, struct dns_address *ret)
{
    bool is_v4 = r->type == DNS_A;

    if ((!is_v4 && r->type != DNS_AAAA) || (r->type != q->type && q->type != DNS_ANY) ||
        r->len != (is_v4 ? 4 : 16)) {
        return false;
    }
    *ret = (struct dns_address){.family = is_v4 ? AF_INET : AF_INET6};
    memcpy(ret->bytes, data + r->data, r->len);
    return true;
}

size_t dns_answer_addresses(const uint8_t *data, size_t len, size_t skip, size_t max,
                            struct dns_address *ret_addresses, uint32_t *ret_ttl_s)
{
    size_t at = DNS_HEADER_SIZE, found = 0;
    uint32_t ttl_s = DNS_TTL_MAX;
    struct dns_question q; /* its name becomes what CNAMEs say */
    struct dns_header h;
    struct dns_record r;

    if (len < DNS_HEADER_SIZE) {
        return 0;
    }
    h = dns_header_read(data);
    if (h.questions != 1 || dns_question_parse(data, len, &at, &q) < 0) {
        return 0;
    }
    for (unsigned i = 0; i < h.answers && found < skip + max; i++) {
        struct dns_address address;

        if (dns_record_parse(data, len, &at, &r) < 0) {
            break;
        }
        if (r.class != DNS_CLASS_IN || !dns_name_eq(&r.name, &q.name)) {
            continue;
        }
        if (r.type == DNS_CNAME && found == 0) {
            size_t target = r.data;

            if (dns_name_parse(data, r.data + r.len, &target, &q.name) < 0) {
                break;
            }
        } else if (take_address(data, &r, &q, &address)) {
            if (found++ >= skip) {
                ret_addresses[found - skip - 1] = address;
            }
        } else {
            continue;
        }
        ttl_s = least(ttl_s, ttl_of(&r));
    }
    if (found <= skip) {
        return 0;
    }
    *ret_ttl_s = ttl_s;
    return found - skip;
}
