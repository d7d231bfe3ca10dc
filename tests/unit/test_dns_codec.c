/* DNS messages against bytes written down by hand, and against themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/dns.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* id 0x1234, RD, one question: MixeD.vm, A, IN. */
static const uint8_t plain_query[] = {
    0x12, 0x34, 0x01, 0x00, 0,   1,   0, 0,   0,   0, 0, 0, /* header */
    5,    'M',  'i',  'x',  'e', 'D', 2, 'v', 'm', 0,       /* name */
    0,    1,    0,    1,
};
static const uint8_t opt_1400[] = {0, 0, 41, 0x05, 0x78, 0, 0, 0x80, 0, 0, 0};

struct message {
    uint8_t data[2048];
    size_t len;
};

static void add(struct message *m, const void *data, size_t len)
{
    assert_true(m->len + len <= sizeof(m->data));
    memcpy(m->data + m->len, data, len);
    m->len += len;
}

#define ADD(m, ...) add(m, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static struct message message_of(const uint8_t *data, size_t len)
{
    struct message m = {0};

    add(&m, data, len);
    return m;
}

static struct message query_with_opt(void)
{
    struct message m = message_of(plain_query, sizeof(plain_query));

    m.data[11] = 1;
    add(&m, opt_1400, sizeof(opt_1400));
    return m;
}

static struct dns_name name_of(const char *text)
{
    struct dns_name name;

    assert_int_equal(dns_name_from_text(text, &name), 0);
    return name;
}

static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

/* ---- names ---- */

static void names_have_their_texts(void **state)
{
    static const char *const good[] = {".", "vm", "a.b.c", "x_y-1.vm"};
    static const char *const bad[] = {"", "..", ".a", "a..b"};
    char text[DNS_TEXT_SIZE], label[80];
    struct dns_name name, other;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        name = name_of(good[i]);
        dns_name_to_text(&name, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(dns_name_from_text(bad[i], &name), -EINVAL);
    }
    name = name_of("a.b.");
    other = name_of("A.B");
    assert_true(dns_name_eq(&name, &other));
    memset(label, 'a', sizeof(label));
    label[64] = '\0';
    assert_int_equal(dns_name_from_text(label, &name), -EINVAL);
    label[63] = '\0';
    assert_int_equal(dns_name_from_text(label, &name), 0);
}

static void odd_bytes_of_a_name_are_escaped(void **state)
{
    struct dns_name name = {.len = 6, .wire = "\4a.\0\xff"};
    char text[DNS_TEXT_SIZE];

    (void)state;
    dns_name_to_text(&name, text);
    assert_string_equal(text, "a\\046\\000\\255");
}

static void the_longest_name_fits(void **state)
{
    struct message m = {.len = DNS_HEADER_SIZE};
    struct dns_name name;
    char text[DNS_TEXT_SIZE];
    size_t at = DNS_HEADER_SIZE;
    uint8_t label[64] = {63};

    (void)state;
    memset(label + 1, 0xFF, 63);
    add(&m, label, 64);
    add(&m, label, 64);
    add(&m, label, 64);
    label[0] = 61;
    add(&m, label, 62);
    ADD(&m, 0);
    assert_int_equal(dns_name_parse(m.data, m.len, &at, &name), 0);
    assert_int_equal(name.len, DNS_NAME_MAX);
    assert_int_equal(at, m.len);
    dns_name_to_text(&name, text);
    assert_int_equal(strlen(text), 250 * 4 + 3);
    /* One byte more. */
    m.len = DNS_HEADER_SIZE;
    label[0] = 63;
    add(&m, label, 64);
    add(&m, label, 64);
    add(&m, label, 64);
    label[0] = 62;
    add(&m, label, 63);
    ADD(&m, 0);
    at = DNS_HEADER_SIZE;
    assert_int_equal(dns_name_parse(m.data, m.len, &at, &name), -EBADMSG);
}

static void pointers_only_go_back(void **state)
{
    uint8_t data[] = {
        0,    0,   0,    0,  0, 0, 0, 0, 0, 0, 0, 0, 1, 'a', 0, /* 12: a */
        1,    'b', 0xC0, 12,                                    /* 15: b.a */
        0xC0, 15,                                               /* 19: b.a */
        0xC0, 19,                                               /* 21: b.a, over two */
        0xC0, 23,                                               /* 23: itself */
        0xC0, 27,                                               /* 25: ahead */
        0xC0, 4,                                                /* 27: the header */
        1,    'c', 0xC0, 29,                                    /* 29: c.c.c.… */
        0x40, 0, /* 33: a label of a kind that is no more */
        0xC0,    /* 35: half a pointer */
    };
    struct dns_name name, want = name_of("b.a");
    size_t at;

    (void)state;
    for (size_t start = 15; start <= 21; start += start == 15 ? 4 : 2) {
        at = start;
        assert_int_equal(dns_name_parse(data, sizeof(data), &at, &name), 0);
        assert_int_equal(at, start == 15 ? 19 : start + 2);
        assert_true(dns_name_eq(&name, &want));
    }
    for (size_t start = 23; start < sizeof(data); start += start == 29 ? 4 : 2) {
        at = start;
        assert_int_equal(dns_name_parse(data, sizeof(data), &at, &name), -EBADMSG);
        assert_int_equal(at, start);
    }
    at = sizeof(data);
    assert_int_equal(dns_name_parse(data, sizeof(data), &at, &name), -EBADMSG);
}

static void a_pointer_goes_to_a_name_that_is_over(void **state)
{
    uint8_t data[] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 'd', 0xC0, 12, 'e', 0, /* 12: d...e, a label */
    };
    struct dns_name name;
    size_t at = 12;

    (void)state;
    assert_int_equal(dns_name_parse(data, sizeof(data), &at, &name), 0);
    at = 14;
    assert_int_equal(dns_name_parse(data, sizeof(data), &at, &name), -EBADMSG);
}

static void zones_begin_at_labels(void **state)
{
    struct dns_name zone = name_of("vm"), name = name_of("a.b.VM"), evm = name_of("evm");
    struct dns_name fake = {.len = 5, .wire = "\3\2vm"}; /* one label: \002vm */

    (void)state;
    assert_int_equal(dns_name_find_zone(&name, &zone), 4);
    assert_int_equal(dns_name_find_zone(&zone, &zone), 0);
    assert_int_equal(dns_name_find_zone(&evm, &zone), -1);
    assert_int_equal(dns_name_find_zone(&fake, &zone), -1);
    assert_int_equal(dns_name_find_zone(&zone, &name), -1);
}

static void reverse_names_are_read(void **state)
{
    static const struct {
        const char *name;
        int r, family;
        unsigned bits;
        bool has_rest;
        uint8_t bytes[4];
    } cases[] = {
        {"1.2.77.10.in-addr.arpa", 0, AF_INET, 32, false, {10, 77, 2, 1}},
        {"77.10.IN-ADDR.ARPA", 0, AF_INET, 16, false, {10, 77}},
        {"in-addr.arpa", 0, AF_INET, 0, false, {0}},
        {"x.77.10.in-addr.arpa", 0, AF_INET, 16, true, {10, 77}},
        {"0.1.2.77.10.in-addr.arpa", 0, AF_INET, 32, true, {10, 77, 2, 1}},
        {"256.in-addr.arpa", 0, AF_INET, 0, true, {0}},
        {"01.in-addr.arpa", 0, AF_INET, 0, true, {0}},
        {"0.in-addr.arpa", 0, AF_INET, 8, false, {0}},
        {"C.d.F.ip6.arpa", 0, AF_INET6, 12, false, {0xFD, 0xC0}},
        {"g.d.f.ip6.arpa", 0, AF_INET6, 8, true, {0xFD}},
        {"10.d.f.ip6.arpa", 0, AF_INET6, 8, true, {0xFD}},
        {"arpa", -EINVAL, 0, 0, false, {0}},
        {"1.2.77.10.vm", -EINVAL, 0, 0, false, {0}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dns_name name = name_of(cases[i].name);
        struct dns_reverse r;

        assert_int_equal(dns_name_to_reverse(&name, &r), cases[i].r);
        if (cases[i].r == 0) {
            assert_int_equal(r.address.family, cases[i].family);
            assert_int_equal(r.bits, cases[i].bits);
            assert_int_equal(r.has_rest, cases[i].has_rest);
            assert_memory_equal(r.address.bytes, cases[i].bytes, 4);
        }
    }
}

/* ---- queries ---- */

static void a_query_is_read(void **state)
{
    struct message m = query_with_opt();
    struct dns_name want = name_of("mixed.vm");
    struct dns_query q;

    (void)state;
    assert_int_equal(dns_query_parse(plain_query, sizeof(plain_query), &q), 0);
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(q.rcode, DNS_NOERROR);
    assert_true(q.has_question);
    assert_false(q.has_edns);
    assert_true(dns_query_wants_recursion(&q));
    assert_int_equal(q.question.type, DNS_A);
    assert_int_equal(q.question.class, DNS_CLASS_IN);
    assert_true(dns_name_eq(&q.question.name, &want));
    assert_memory_equal(q.question.name.wire, "\5MixeD", 6);
    assert_int_equal(dns_reply_limit(&q, false), 512);
    assert_int_equal(dns_reply_limit(&q, true), 65535);
    assert_int_equal(dns_query_parse(m.data, m.len, &q), 0);
    assert_int_equal(q.rcode, DNS_NOERROR);
    assert_true(q.has_edns);
    assert_int_equal(q.udp_size, 1400);
    assert_int_equal(dns_reply_limit(&q, false), 1232);
    q.udp_size = 700;
    assert_int_equal(dns_reply_limit(&q, false), 700);
    q.udp_size = 100;
    assert_int_equal(dns_reply_limit(&q, false), 512);
}

static unsigned rcode_of(const struct message *m)
{
    struct dns_query q;

    assert_int_equal(dns_query_parse(m->data, m->len, &q), 0);
    return q.rcode;
}

static void each_kind_of_bad_query_has_its_error(void **state)
{
    static const uint8_t counts[] = {5, 7, 9}; /* no, or more than one: question, answer, … */
    struct message m;
    struct dns_query q;

    (void)state;
    for (size_t len = 0; len < DNS_HEADER_SIZE; len++) {
        assert_int_equal(dns_query_parse(plain_query, len, &q), -EBADMSG);
    }
    m = message_of(plain_query, sizeof(plain_query));
    m.data[2] |= 0x80;
    assert_int_equal(dns_query_parse(m.data, m.len, &q), -EBADMSG); /* a reply */
    for (size_t len = DNS_HEADER_SIZE; len < sizeof(plain_query); len++) {
        m = message_of(plain_query, len);
        assert_int_equal(rcode_of(&m), DNS_FORMERR);
    }
    for (unsigned opcode = 1; opcode < 16; opcode++) {
        m = message_of(plain_query, sizeof(plain_query));
        m.data[2] |= (uint8_t)(opcode << 3);
        assert_int_equal(rcode_of(&m), DNS_NOTIMP);
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        m = message_of(plain_query, sizeof(plain_query));
        m.data[counts[i]]++;
        assert_int_equal(rcode_of(&m), DNS_FORMERR);
    }
    m = message_of(plain_query, sizeof(plain_query));
    m.data[5] = 0;
    assert_int_equal(rcode_of(&m), DNS_FORMERR);
    m = message_of(plain_query, sizeof(plain_query));
    ADD(&m, 0);
    assert_int_equal(rcode_of(&m), DNS_FORMERR); /* a byte too many */
    m = message_of(plain_query, sizeof(plain_query));
    m.data[23] = DNS_OPT;
    assert_int_equal(rcode_of(&m), DNS_FORMERR); /* OPT is no type to ask for */
}

static void each_kind_of_bad_edns_has_its_error(void **state)
{
    struct message m = query_with_opt();
    size_t opt = sizeof(plain_query);

    (void)state;
    m.data[opt + 6] = 1;
    assert_int_equal(rcode_of(&m), DNS_BADVERS);
    m = query_with_opt();
    m.data[11] = 2;
    add(&m, opt_1400, sizeof(opt_1400));
    assert_int_equal(rcode_of(&m), DNS_FORMERR); /* two */
    m = query_with_opt();
    m.data[opt + 10] = 6;
    ADD(&m, 0, 10, 0, 2, 1, 2);
    assert_int_equal(rcode_of(&m), DNS_NOERROR); /* an option */
    m.data[opt + 14] = 3;
    assert_int_equal(rcode_of(&m), DNS_FORMERR); /* that is longer than the record */
    m = message_of(plain_query, sizeof(plain_query));
    m.data[11] = 1;
    ADD(&m, 1, 'x');
    add(&m, opt_1400, sizeof(opt_1400));
    assert_int_equal(rcode_of(&m), DNS_FORMERR); /* of a name */
}

/* ---- replies ---- */

static struct dns_query query_of(const char *name, unsigned type, bool edns)
{
    return (struct dns_query){
        .id = 7,
        .flags = DNS_FLAG_RD,
        .has_question = true,
        .has_edns = edns,
        .udp_size = 4096,
        .question = {.name = name_of(name), .type = (uint16_t)type, .class = DNS_CLASS_IN},
    };
}

static void an_address_has_its_bytes(void **state)
{
    static const uint8_t want[] = {
        0x12, 0x34, 0x85, 0x80, 0,    1,   0, 1,   0,   0, 0, 1, /* QR AA RD RA, 1 1 0 1 */
        5,    'M',  'i',  'x',  'e',  'D', 2, 'v', 'm', 0,       /* the question, as it was */
        0,    1,    0,    1,                                     /* */
        0xC0, 12,   0,    1,    0,    1,   0, 0,   0,   5, 0, 4, 10, 1, 2, 3, /* */
        0,    0,    41,   0x04, 0xD0, 0,   0, 0,   0,   0, 0,                 /* OPT */
    };
    struct message m = query_with_opt();
    struct dns_address a = {.family = AF_INET, .bytes = {10, 1, 2, 3}};
    uint8_t data[512];
    struct dns_query q;
    struct dns_reply r;

    (void)state;
    assert_int_equal(dns_query_parse(m.data, m.len, &q), 0);
    dns_reply_begin(&r, data, sizeof(data), &q, DNS_NOERROR, DNS_FLAG_AA | DNS_FLAG_RA);
    dns_reply_add_address(&r, &a, 5);
    assert_int_equal(dns_reply_end(&r), sizeof(want));
    assert_memory_equal(data, want, sizeof(want));
}

static void an_error_may_have_no_question(void **state)
{
    static const uint8_t want[] = {0x12, 0x34, 0x81, 0x01, 0, 0, 0, 0, 0, 0, 0, 0};
    uint8_t data[512];
    struct dns_query q;
    struct dns_reply r;

    (void)state;
    assert_int_equal(dns_query_parse(plain_query, 20, &q), 0);
    dns_reply_begin(&r, data, sizeof(data), &q, q.rcode, 0);
    assert_int_equal(dns_reply_end(&r), sizeof(want));
    assert_memory_equal(data, want, sizeof(want));
}

static void an_unknown_version_is_told_in_opt(void **state)
{
    struct message m = query_with_opt();
    uint8_t data[512];
    struct dns_query q;
    struct dns_reply r;
    size_t len;

    (void)state;
    m.data[sizeof(plain_query) + 6] = 9;
    assert_int_equal(dns_query_parse(m.data, m.len, &q), 0);
    dns_reply_begin(&r, data, sizeof(data), &q, q.rcode, 0);
    len = dns_reply_end(&r);
    assert_int_equal(data[3] & 15, 0);
    assert_int_equal(data[len - 6], 1); /* 16 = 1 << 4 */
    assert_int_equal(data[len - 5], 0); /* our version */
}

static void a_negative_answer_has_an_soa(void **state)
{
    struct dns_query q = query_of("none.vm", DNS_A, false);
    struct dns_name zone = name_of("vm"), mailbox = name_of("hostmaster.vm");
    struct dns_soa soa = {
        .zone = &zone, .server = &zone, .mailbox = &mailbox, .serial = 9, .negative_ttl_s = 1};
    static const uint8_t want[] = {
        0xC0, 17, 0,    6,    0,   1,   0,   0,   0,   1,   0,   35, /* vm SOA IN 1 */
        0xC0, 17, 10,   'h',  'o', 's', 't', 'm', 'a', 's', 't', 'e', 'r', 0xC0, 17, /* */
        0,    0,  0,    9,    0,   0,   14,  16,  0,   0,   2,   88,                 /* */
        0,    1,  0x51, 0x80, 0,   0,   0,   1,
    };
    uint8_t data[512];
    struct dns_answer a;
    struct dns_reply r;
    size_t len;

    (void)state;
    dns_reply_begin(&r, data, sizeof(data), &q, DNS_NXDOMAIN, DNS_FLAG_AA);
    dns_reply_add_soa(&r, DNS_AUTHORITY, &soa);
    len = dns_reply_end(&r);
    assert_int_equal(len, 12 + 9 + 4 + sizeof(want));
    assert_memory_equal(data + len - sizeof(want), want, sizeof(want));
    assert_int_equal(dns_answer_parse(data, len, &a), 0);
    assert_int_equal(a.rcode, DNS_NXDOMAIN);
    assert_true(a.is_negative);
    assert_true(a.is_cacheable);
    assert_int_equal(a.ttl_s, 1);
}

static void what_does_not_fit_is_truncated(void **state)
{
    struct dns_query q = query_of("host.vm", DNS_AAAA, true);
    struct dns_address a = {.family = AF_INET6, .bytes = {0xFD}};
    uint8_t data[512];
    struct dns_answer got;
    struct dns_reply r;
    size_t len;

    (void)state;
    dns_reply_begin(&r, data, sizeof(data), &q, DNS_NOERROR, 0);
    for (int i = 0; i < 30; i++) {
        dns_reply_add_address(&r, &a, 5);
    }
    len = dns_reply_end(&r);
    assert_true(len <= 512);
    assert_true(data[2] & 0x02);
    assert_int_equal(get16(data + 6), (512 - 11 - 12 - 13) / 28);
    assert_int_equal(get16(data + 10), 1); /* OPT has room always */
    assert_int_equal(dns_answer_parse(data, len, &got), 0);
    assert_true(got.is_truncated);
    data[2] &= (uint8_t)~0x02;
    assert_int_equal(dns_answer_parse(data, len, &got), 0); /* whole records */
}

static void a_pointer_has_its_name(void **state)
{
    struct dns_query q = query_of("1.0.77.10.in-addr.arpa", DNS_PTR, false);
    struct dns_name target = name_of("web.vm"), got;
    uint8_t data[512];
    struct dns_reply r;
    size_t len, at;

    (void)state;
    dns_reply_begin(&r, data, sizeof(data), &q, DNS_NOERROR, DNS_FLAG_AA);
    dns_reply_add_ptr(&r, &target, 5);
    len = dns_reply_end(&r);
    at = len - target.len;
    assert_int_equal(get16(data + at - 2), target.len);
    assert_int_equal(dns_name_parse(data, len, &at, &got), 0);
    assert_true(dns_name_eq(&got, &target));
    assert_int_equal(at, len);
}

/* ---- upstream ---- */

static void a_query_upstream_can_be_read(void **state)
{
    struct dns_query asked = query_of("Example.org", DNS_AAAA, false), q;
    uint8_t data[DNS_QUERY_MAX];

    (void)state;
    for (int edns = 0; edns < 2; edns++) {
        size_t len = dns_query_build(data, 0xBEEF, &asked.question, edns);

        assert_int_equal(dns_query_parse(data, len, &q), 0);
        assert_int_equal(q.rcode, DNS_NOERROR);
        assert_int_equal(q.id, 0xBEEF);
        assert_int_equal(q.has_edns, edns);
        assert_int_equal(edns ? q.udp_size : 1232, 1232);
        assert_true(dns_query_wants_recursion(&q));
        assert_true(dns_question_eq(&q.question, &asked.question));
    }
}

/* www.example: CNAME a.example (300 s), A 192.0.2.1 (100 s), A 192.0.2.2 (90 s); NS (50 s); OPT. */
static struct message chain(void)
{
    struct message m = {0};

    ADD(&m, 0, 7, 0x81, 0x80, 0, 1, 0, 3, 0, 1, 0, 1);
    ADD(&m, 3, 'w', 'w', 'w', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 1, 0, 1);
    ADD(&m, 0xC0, 12, 0, 5, 0, 1, 0, 0, 1, 44, 0, 4, 1, 'a', 0xC0, 16);
    ADD(&m, 0xC0, 41, 0, 1, 0, 1, 0, 0, 0, 100, 0, 4, 192, 0, 2, 1);
    ADD(&m, 0xC0, 41, 0, 1, 0, 1, 0, 0, 0, 90, 0, 4, 192, 0, 2, 2);
    ADD(&m, 0xC0, 16, 0, 2, 0, 1, 0, 0, 0, 50, 0, 2, 0xC0, 41);
    add(&m, opt_1400, sizeof(opt_1400));
    return m;
}

static void an_answer_is_read(void **state)
{
    struct message m = chain();
    struct dns_name want = name_of("www.example");
    struct dns_address addresses[4];
    struct dns_answer a;
    uint32_t ttl_s;

    (void)state;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    assert_int_equal(a.id, 7);
    assert_int_equal(a.rcode, DNS_NOERROR);
    assert_false(a.is_truncated);
    assert_false(a.is_negative);
    assert_true(a.is_cacheable);
    assert_int_equal(a.ttl_s, 90);
    assert_int_equal(a.kept_len, m.len - sizeof(opt_1400));
    assert_true(dns_name_eq(&a.question.name, &want));
    assert_int_equal(dns_answer_addresses(m.data, m.len, 0, 4, addresses, &ttl_s), 2);
    assert_int_equal(ttl_s, 90);
    assert_memory_equal(addresses[1].bytes, ((uint8_t[]){192, 0, 2, 2}), 4);
    assert_int_equal(dns_answer_addresses(m.data, m.len, 0, 1, addresses, &ttl_s), 1);
    assert_int_equal(ttl_s, 100);
    assert_int_equal(dns_answer_addresses(m.data, m.len, 1, 1, addresses, &ttl_s), 1);
    assert_memory_equal(addresses[0].bytes, ((uint8_t[]){192, 0, 2, 2}), 4);
    assert_int_equal(dns_answer_addresses(m.data, m.len, 2, 1, addresses, &ttl_s), 0);
    m.data[46] = 12; /* the first A is www.example's own and not the alias's */
    assert_int_equal(dns_answer_addresses(m.data, m.len, 0, 4, addresses, &ttl_s), 1);
    assert_memory_equal(addresses[0].bytes, ((uint8_t[]){192, 0, 2, 2}), 4);
}

static void an_answer_is_handed_on_older(void **state)
{
    struct message m = chain();
    struct dns_query q = query_of("WWW.Example", DNS_A, true);
    struct dns_answer a, b;
    uint8_t data[1232];
    size_t len;

    (void)state;
    q.id = 0xABCD;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    len = dns_reply_from_answer(data, sizeof(data), &q, m.data, a.kept_len, 60);
    assert_int_equal(len, m.len);
    assert_int_equal(get16(data), 0xABCD);
    assert_memory_equal(data + 12, q.question.name.wire, q.question.name.len);
    assert_int_equal(dns_answer_parse(data, len, &b), 0);
    assert_int_equal(b.ttl_s, 30);
    assert_int_equal(data[86], 0); /* the NS had 50 s only */
    len = dns_reply_from_answer(data, sizeof(data), &q, m.data, a.kept_len, 1000);
    assert_int_equal(dns_answer_parse(data, len, &b), 0);
    assert_int_equal(b.ttl_s, 0);
    q.has_edns = false;
    len = dns_reply_from_answer(data, sizeof(data), &q, m.data, a.kept_len, 0);
    assert_int_equal(len, a.kept_len);
    assert_int_equal(get16(data + 10), 0);
}

static void an_answer_that_is_too_large_becomes_tc(void **state)
{
    struct message m = {0};
    struct dns_query q = query_of("www.example", DNS_A, false);
    struct dns_answer a;
    uint8_t data[512];
    size_t len;

    (void)state;
    ADD(&m, 0, 7, 0x81, 0x80, 0, 1, 0, 40, 0, 0, 0, 0);
    ADD(&m, 3, 'w', 'w', 'w', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 1, 0, 1);
    for (uint8_t i = 0; i < 40; i++) {
        ADD(&m, 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 100, 0, 4, 192, 0, 2, i);
    }
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    len = dns_reply_from_answer(data, sizeof(data), &q, m.data, a.kept_len, 0);
    assert_int_equal(len, 29);
    assert_true(data[2] & 0x02);
    assert_int_equal(get16(data + 6), 0);
}

static void bad_answers_are_refused(void **state)
{
    struct message m = chain();
    struct dns_answer a;

    (void)state;
    for (size_t len = 0; len < m.len; len++) {
        assert_int_equal(dns_answer_parse(m.data, len, &a), -EBADMSG);
    }
    m.data[2] &= 0x7F;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), -EBADMSG); /* a query */
    m = chain();
    m.data[2] |= 0x10;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), -EBADMSG); /* of another opcode */
    m = chain();
    m.data[5] = 2;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), -EBADMSG); /* two questions */
    m = chain();
    m.data[32] = DNS_OPT;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), -EBADMSG); /* OPT as an answer */
    m = chain();
    m.data[7] = 255;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), -EBADMSG); /* more than there are */
}

static void an_error_without_a_question_is_one(void **state)
{
    uint8_t data[] = {0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    struct dns_answer a;

    (void)state;
    assert_int_equal(dns_answer_parse(data, sizeof(data), &a), 0);
    assert_int_equal(a.rcode, DNS_FORMERR);
    assert_false(a.has_question);
    data[3] = 0;
    assert_int_equal(dns_answer_parse(data, sizeof(data), &a), -EBADMSG);
}

static void negative_ttls_are_of_the_soa(void **state)
{
    struct message m = {0};
    struct dns_query q = query_of("x", DNS_A, false);
    uint8_t data[512];
    struct dns_answer a;

    (void)state;
    ADD(&m, 0, 7, 0x81, 0x80, 0, 1, 0, 0, 0, 1, 0, 0);
    ADD(&m, 1, 'x', 0, 0, 1, 0, 1);
    ADD(&m, 0, 0, 6, 0, 1, 0, 0, 0, 200, 0, 22, 0, 0);
    ADD(&m, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 30);
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    assert_true(a.is_negative); /* NOERROR, and no record */
    assert_true(a.is_cacheable);
    assert_int_equal(a.ttl_s, 30);
    q.question = a.question;
    assert_int_equal(dns_reply_from_answer(data, sizeof(data), &q, m.data, a.kept_len, 20), m.len);
    assert_int_equal(data[19 + 8], 10); /* and not 180 */
    m.data[m.len - 1] = 250;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    assert_int_equal(a.ttl_s, 200);
    m.data[19 + 5] = 0x80; /* the upper bit: 0 */
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    assert_int_equal(a.ttl_s, 0);
    m.data[9] = 0; /* now the record is behind the end */
    m.data[11] = 1;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    assert_true(a.is_negative);
    assert_false(a.is_cacheable);
    m.data[9] = 1;
    m.data[11] = 0;
    m.data[19 + 10] = 21; /* an SOA that ends early */
    m.len--;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), -EBADMSG);
    m.data[3] = 0x82; /* SERVFAIL is kept by nobody */
    m.data[9] = 0;
    assert_int_equal(dns_answer_parse(m.data, m.len, &a), 0);
    assert_false(a.is_cacheable);
    assert_int_equal(a.rcode, DNS_SERVFAIL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_their_texts),
        cmocka_unit_test(odd_bytes_of_a_name_are_escaped),
        cmocka_unit_test(the_longest_name_fits),
        cmocka_unit_test(pointers_only_go_back),
        cmocka_unit_test(a_pointer_goes_to_a_name_that_is_over),
        cmocka_unit_test(zones_begin_at_labels),
        cmocka_unit_test(reverse_names_are_read),
        cmocka_unit_test(a_query_is_read),
        cmocka_unit_test(each_kind_of_bad_query_has_its_error),
        cmocka_unit_test(each_kind_of_bad_edns_has_its_error),
        cmocka_unit_test(an_address_has_its_bytes),
        cmocka_unit_test(an_error_may_have_no_question),
        cmocka_unit_test(an_unknown_version_is_told_in_opt),
        cmocka_unit_test(a_negative_answer_has_an_soa),
        cmocka_unit_test(what_does_not_fit_is_truncated),
        cmocka_unit_test(a_pointer_has_its_name),
        cmocka_unit_test(a_query_upstream_can_be_read),
        cmocka_unit_test(an_answer_is_read),
        cmocka_unit_test(an_answer_is_handed_on_older),
        cmocka_unit_test(an_answer_that_is_too_large_becomes_tc),
        cmocka_unit_test(bad_answers_are_refused),
        cmocka_unit_test(an_error_without_a_question_is_one),
        cmocka_unit_test(negative_ttls_are_of_the_soa),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
