/* Queries that come, and replies to them. */
#include "codec/dns_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Of the SOA: nobody transfers this zone, so these are just sane. */
#define SOA_REFRESH_S 3600
#define SOA_RETRY_S 600
#define SOA_EXPIRE_S 86400

struct dns_header dns_header_read(const uint8_t *data)
{
    return (struct dns_header){
        .id = dns_get_16(data),
        .flags = dns_get_16(data + 2),
        .questions = dns_get_16(data + 4),
        .answers = dns_get_16(data + 6),
        .authorities = dns_get_16(data + 8),
        .additionals = dns_get_16(data + 10),
    };
}

void dns_header_write(uint8_t *data, const struct dns_header *h)
{
    dns_set_16(data, h->id);
    dns_set_16(data + 2, h->flags);
    dns_set_16(data + 4, h->questions);
    dns_set_16(data + 6, h->answers);
    dns_set_16(data + 8, h->authorities);
    dns_set_16(data + 10, h->additionals);
}

int dns_question_parse(const uint8_t *data, size_t len, size_t *offset, struct dns_question *ret)
{
    size_t at = *offset;

    if (dns_name_parse(data, len, &at, &ret->name) < 0 || len - at < 4) {
        return -EBADMSG;
    }
    ret->type = dns_get_16(data + at);
    ret->class = dns_get_16(data + at + 2);
    *offset = at + 4;
    return 0;
}

int dns_record_parse(const uint8_t *data, size_t len, size_t *offset, struct dns_record *ret)
{
    size_t at = *offset;

    if (dns_name_parse(data, len, &at, &ret->name) < 0 || len - at < 10) {
        return -EBADMSG;
    }
    ret->type = dns_get_16(data + at);
    ret->class = dns_get_16(data + at + 2);
    ret->ttl_at = at + 4;
    ret->ttl_s = dns_get_32(data + at + 4);
    ret->len = dns_get_16(data + at + 8);
    ret->data = at + 10;
    if (len - ret->data < ret->len) {
        return -EBADMSG;
    }
    *offset = ret->data + ret->len;
    return 0;
}

/* ---- queries ---- */

bool dns_query_wants_recursion(const struct dns_query *q)
{
    return q->flags & DNS_FLAG_RD;
}

/* Options are not used, but have to be well-formed. */
static int take_opt(const uint8_t *data, const struct dns_record *r, struct dns_query *q)
{
    size_t at = r->data, end = r->data + r->len;

    if (q->has_edns || r->name.len != 1) {
        return -EBADMSG;
    }
    while (at < end) {
        if (end - at < 4 || end - at - 4 < dns_get_16(data + at + 2)) {
            return -EBADMSG;
        }
        at += 4U + dns_get_16(data + at + 2);
    }
    q->has_edns = true;
    q->udp_size = r->class;
    if ((r->ttl_s >> 16 & 0xFF) != 0) {
        q->rcode = DNS_BADVERS;
    }
    return 0;
}

/* What follows the header of a query. */
static int take_sections(const uint8_t *data, size_t len, const struct dns_header *h,
                         struct dns_query *q)
{
    size_t at = DNS_HEADER_SIZE;

    if (h->questions != 1 || dns_question_parse(data, len, &at, &q->question) < 0) {
        return -EBADMSG;
    }
    q->has_question = true;
    if (h->answers > 0 || h->authorities > 0 || q->question.type == DNS_OPT) {
        return -EBADMSG;
    }
    for (unsigned i = 0; i < h->additionals; i++) {
        struct dns_record r;

        if (dns_record_parse(data, len, &at, &r) < 0 ||
            (r.type == DNS_OPT && take_opt(data, &r, q) < 0)) {
            return -EBADMSG;
        }
    }
    return at == len ? 0 : -EBADMSG;
}

int dns_query_parse(const uint8_t *data, size_t len, struct dns_query *ret_query)
{
    struct dns_query q = {0};
    struct dns_header h;

    if (len < DNS_HEADER_SIZE) {
        return -EBADMSG;
    }
    h = dns_header_read(data);
    if (h.flags & DNS_FLAG_QR) {
        return -EBADMSG;
    }
    q.id = h.id;
    q.flags = h.flags;
    if (h.flags & DNS_OPCODE_MASK) {
        q.rcode = DNS_NOTIMP; /* what follows may mean something else */
    } else if (take_sections(data, len, &h, &q) < 0) {
        q.rcode = DNS_FORMERR;
    }
    *ret_query = q;
    return 0;
}

/* ---- replies ---- */

size_t dns_reply_limit(const struct dns_query *q, bool tcp)
{
    if (tcp) {
        return DNS_MESSAGE_MAX;
    }
    if (!q->has_edns || q->udp_size < DNS_UDP_PLAIN) {
        return DNS_UDP_PLAIN;
    }
    return q->udp_size < DNS_UDP_MAX ? q->udp_size : DNS_UDP_MAX;
}

size_t dns_question_write(uint8_t *data, const struct dns_question *q)
{
    memcpy(data, q->name.wire, q->name.len);
    dns_set_16(data + q->name.len, q->type);
    dns_set_16(data + q->name.len + 2, q->class);
    return q->name.len + 4U;
}

size_t dns_opt_write(uint8_t *data, uint16_t udp_size, uint16_t rcode)
{
    memset(data, 0, DNS_OPT_SIZE);
    dns_set_16(data + 1, DNS_OPT);
    dns_set_16(data + 3, udp_size);
    data[5] = (uint8_t)(rcode >> 4);
    return DNS_OPT_SIZE;
}

void dns_reply_begin(struct dns_reply *r, uint8_t *data, size_t limit, const struct dns_query *q,
                     enum dns_rcode rcode, uint16_t flags)
{
    assert(limit >= DNS_UDP_PLAIN);
    *r = (struct dns_reply){
        .data = data,
        .limit = limit - (q->has_edns ? DNS_OPT_SIZE : 0), /* kept for the end */
        .len = DNS_HEADER_SIZE,
        .query = q,
        .rcode = (uint16_t)rcode,
        .flags = flags,
    };
    if (q->has_question) {
        r->len += dns_question_write(data + r->len, &q->question);
    }
}

/* Space for the end of a record; NULL: no more records. */
static uint8_t *reserve(struct dns_reply *r, size_t len)
{
    if ((r->flags & DNS_FLAG_TC) || r->limit - r->len < len) {
        r->flags |= DNS_FLAG_TC;
        return NULL;
    }
    r->len += len;
    return r->data + r->len - len;
}

/* Writes a name; what of it is the end of the question's name is a pointer there. */
static void put_name(struct dns_reply *r, const struct dns_name *name)
{
    const struct dns_name *asked = &r->query->question.name;
    size_t own = 0;
    uint8_t *p;

    for (; name->wire[own]; own += 1U + name->wire[own]) {
        struct dns_name end = {.len = (uint8_t)(name->len - own)};
        int at;

        memcpy(end.wire, name->wire + own, end.len);
        at = dns_name_find_zone(asked, &end);
        if (at >= 0) {
            p = reserve(r, own + 2);
            if (p) {
                memcpy(p, name->wire, own);
                dns_set_16(p + own, (uint16_t)(DNS_POINTER << 8 | (DNS_HEADER_SIZE + at)));
            }
            return;
        }
    }
    p = reserve(r, name->len);
    if (p) {
        memcpy(p, name->wire, name->len);
    }
}

static void begin_record(struct dns_reply *r, const struct dns_name *owner, enum dns_type type,
                         uint32_t ttl_s, uint16_t len)
{
    uint8_t *p;

    put_name(r, owner);
    p = reserve(r, 10);
    if (p) {
        dns_set_16(p, (uint16_t)type);
        dns_set_16(p + 2, DNS_CLASS_IN);
        dns_set_32(p + 4, ttl_s);
        dns_set_16(p + 8, len);
    }
}

/* Keeps the record that began at `start`, or takes back the part of it that was written. */
static void end_record(struct dns_reply *r, size_t start, enum dns_section section)
{
    if (r->flags & DNS_FLAG_TC) {
        r->len = start;
    } else if (section == DNS_ANSWER) {
        r->answers++;
    } else {
        r->authorities++;
    }
}

void dns_reply_add_address(struct dns_reply *r, const struct dns_address *a, uint32_t ttl_s)
{
    bool is_v4 = a->family == AF_INET;
    uint16_t len = is_v4 ? 4 : 16;
    size_t start = r->len;
    uint8_t *p;

    begin_record(r, &r->query->question.name, is_v4 ? DNS_A : DNS_AAAA, ttl_s, len);
    p = reserve(r, len);
    if (p) {
        memcpy(p, a->bytes, len);
    }
    end_record(r, start, DNS_ANSWER);
}

/* The length of a compressed name is known once it is written. */
static void set_len(struct dns_reply *r, size_t data)
{
    if (!(r->flags & DNS_FLAG_TC)) {
        dns_set_16(r->data + data - 2, (uint16_t)(r->len - data));
    }
}

void dns_reply_add_ptr(struct dns_reply *r, const struct dns_name *target, uint32_t ttl_s)
{
    size_t start = r->len, data;

    begin_record(r, &r->query->question.name, DNS_PTR, ttl_s, 0);
    data = r->len;
    put_name(r, target);
    set_len(r, data);
    end_record(r, start, DNS_ANSWER);
}

void dns_reply_add_soa(struct dns_reply *r, enum dns_section section, const struct dns_soa *soa)
{
    size_t start = r->len, data;
    uint8_t *p;

    begin_record(r, soa->zone, DNS_SOA, soa->negative_ttl_s, 0);
    data = r->len;
    put_name(r, soa->server);
    put_name(r, soa->mailbox);
    p = reserve(r, 20);
    if (p) {
        dns_set_32(p, soa->serial);
        dns_set_32(p + 4, SOA_REFRESH_S);
        dns_set_32(p + 8, SOA_RETRY_S);
        dns_set_32(p + 12, SOA_EXPIRE_S);
        dns_set_32(p + 16, soa->negative_ttl_s);
    }
    set_len(r, data);
    end_record(r, start, section);
}

size_t dns_reply_end(struct dns_reply *r)
{
    const struct dns_query *q = r->query;
    struct dns_header h = {
        .id = q->id,
        .flags = (uint16_t)(DNS_FLAG_QR | (q->flags & (DNS_OPCODE_MASK | DNS_FLAG_RD)) | r->flags |
                            (r->rcode & DNS_RCODE_MASK)),
        .questions = q->has_question,
        .answers = r->answers,
        .authorities = r->authorities,
        .additionals = q->has_edns,
    };

    dns_header_write(r->data, &h);
    if (q->has_edns) {
        r->len += dns_opt_write(r->data + r->len, DNS_UDP_MAX, r->rcode);
    }
    return r->len;
}
