/*
 * DNS messages. The first byte says which side: an even one, a query of a client and what it is
 * answered; an odd one, an answer of a server upstream and what of it is handed on.
 */
#include "codec/dns.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t reply[DNS_MESSAGE_MAX];

static void must(bool holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

/* Everything that is added at most, so that it is truncated somewhere. */
static size_t build(const struct dns_query *q, size_t limit, unsigned records)
{
    struct dns_name zone, mailbox;
    struct dns_soa soa = {
        .zone = &zone, .server = &zone, .mailbox = &mailbox, .serial = 1, .negative_ttl_s = 1};
    struct dns_address v4 = {.family = AF_INET, .bytes = {10, 0, 0, 1}};
    struct dns_address v6 = {.family = AF_INET6, .bytes = {0xFD}};
    struct dns_reply r;

    must(dns_name_from_text("vm", &zone) == 0);
    must(dns_name_from_text("hostmaster.vm", &mailbox) == 0);
    dns_reply_begin(&r, reply, limit, q, q->rcode, DNS_FLAG_AA);
    for (unsigned i = 0; q->has_question && i < records; i++) {
        dns_reply_add_address(&r, i % 2 ? &v4 : &v6, i);
        dns_reply_add_ptr(&r, &mailbox, i);
    }
    if (q->has_question) {
        dns_reply_add_soa(&r, DNS_AUTHORITY, &soa);
    }
    return dns_reply_end(&r);
}

static void try_query(const uint8_t *data, size_t size, unsigned records)
{
    struct dns_reverse reverse;
    char text[DNS_TEXT_SIZE];
    struct dns_answer a;
    struct dns_query q;

    if (dns_query_parse(data, size, &q) < 0) {
        return;
    }
    must(q.has_question || q.rcode != DNS_NOERROR);
    for (int tcp = 0; tcp < 2; tcp++) {
        size_t limit = dns_reply_limit(&q, tcp), len = build(&q, limit, records);

        must(len <= limit);
        /* A reply is no query, and what we write can be read. */
        must(dns_query_parse(reply, len, &(struct dns_query){0}) < 0);
        if (!(q.flags & 0x7800)) {
            must(dns_answer_parse(reply, len, &a) == 0);
            must(a.id == q.id && a.has_question == q.has_question);
            must(!a.has_question || dns_question_eq(&a.question, &q.question));
            must(a.is_truncated || a.rcode == q.rcode || !q.has_edns);
        }
    }
    if (q.has_question) {
        dns_name_to_text(&q.question.name, text);
        must(strlen(text) < DNS_TEXT_SIZE);
        if (dns_name_to_reverse(&q.question.name, &reverse) == 0) {
            must(reverse.bits <= (reverse.address.family == AF_INET ? 32 : 128));
        }
    }
}

static void try_answer(const uint8_t *data, size_t size, uint32_t age_s)
{
    struct dns_query q = {.id = 1, .has_question = true, .has_edns = age_s % 2, .udp_size = 4096};
    struct dns_address addresses[4];
    struct dns_answer a, b;
    uint32_t ttl_s = 0;
    size_t len, count;

    count = dns_answer_addresses(data, size, age_s % 3, 4, addresses, &ttl_s);
    must(count <= 4 && ttl_s <= DNS_TTL_MAX);
    if (dns_answer_parse(data, size, &a) < 0) {
        return;
    }
    must(a.kept_len <= size && a.ttl_s <= DNS_TTL_MAX);
    must(!a.is_truncated || !a.is_cacheable);
    if (!a.has_question) {
        must(a.rcode != DNS_NOERROR && a.rcode != DNS_NXDOMAIN);
        return;
    }
    if (a.rcode != DNS_NOERROR && a.rcode != DNS_NXDOMAIN) {
        return; /* never handed on */
    }
    q.question = a.question;
    len = dns_reply_from_answer(reply, dns_reply_limit(&q, age_s % 5), &q, data, a.kept_len, age_s);
    must(len <= dns_reply_limit(&q, age_s % 5));
    if (dns_answer_parse(reply, len, &b) < 0) {
        must(age_s > 0); /* a name was made of a TTL */
        return;
    }
    must(b.id == 1 && b.rcode == a.rcode && dns_question_eq(&b.question, &q.question));
    if (!b.is_truncated) {
        /* What is aged says the same, for less long. */
        must(b.is_negative == a.is_negative && b.is_cacheable == a.is_cacheable);
        must(b.ttl_s <= a.ttl_s && (age_s > 0 || b.ttl_s == a.ttl_s));
        count -= dns_answer_addresses(reply, len, age_s % 3, 4, addresses, &ttl_s);
        must(count == 0 || age_s > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > DNS_MESSAGE_MAX) {
        return 0;
    }
    if (data[0] % 2 == 0) {
        try_query(data + 2, size - 2, data[1]);
    } else {
        try_answer(data + 2, size - 2, data[1]);
    }
    return 0;
}
