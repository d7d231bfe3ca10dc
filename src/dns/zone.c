/* What we know ourselves: the zone of the domain, the reverse zones, localhost. */
#include "dns/dns_priv.h"

/* What there is at a name. */
struct found {
    bool is_ours;
    bool exists;
    bool is_apex;
    struct dns_name zone; /* its apex */
    struct dns_address addresses[2];
    size_t address_count;
    bool has_pointer;
    struct dns_name pointer;
};

/* The name from the label at `at` on. */
static struct dns_name end_of(const struct dns_name *name, size_t at)
{
    struct dns_name end = {.len = (uint8_t)(name->len - at)};

    memcpy(end.wire, name->wire + at, end.len);
    return end;
}

/* The label just before `at`. */
static const uint8_t *label_before(const struct dns_name *name, size_t at)
{
    size_t label = 0;

    while (label + 1U + name->wire[label] < at) {
        label += 1U + name->wire[label];
    }
    return name->wire + label;
}

static void find_in_domain(struct dns *d, const struct dns_name *name, struct found *f)
{
    int at = dns_name_find_zone(name, &d->domain);

    if (at < 0) {
        return;
    }
    f->is_ours = true;
    f->zone = d->domain;
    f->is_apex = f->exists = at == 0;
    if (at > 0) {
        f->address_count = dns_names_find(d, label_before(name, (size_t)at), f->addresses);
        f->exists = f->address_count > 0;
    }
}

static unsigned labels_of(const struct dns_name *name)
{
    unsigned count = 0;

    for (size_t at = 0; name->wire[at]; at += 1U + name->wire[at]) {
        count++;
    }
    return count;
}

/* The last `keep` labels. */
static struct dns_name last_labels(const struct dns_name *name, unsigned keep)
{
    size_t at = 0;

    for (unsigned skip = labels_of(name) - keep; skip > 0; skip--) {
        at += 1U + name->wire[at];
    }
    return end_of(name, at);
}

static bool has_prefix(const struct dns_address *a, const struct dns_range *range)
{
    unsigned whole = range->prefix / 8, rest = range->prefix % 8;

    return a->family == range->address.family &&
           memcmp(a->bytes, range->address.bytes, whole) == 0 &&
           (rest == 0 || (a->bytes[whole] ^ range->address.bytes[whole]) >> (8 - rest) == 0);
}

/* A range that ends within a label's bits is several zones, one for each value of that label. */
static bool find_range(const struct dns *d, const struct dns_name *name,
                       const struct dns_reverse *r, struct found *f)
{
    unsigned step = r->address.family == AF_INET ? 8 : 4;

    for (size_t i = 0; i < d->params.range_count; i++) {
        const struct dns_range *range = &d->params.ranges[i];
        unsigned labels = (range->prefix + step - 1) / step;

        if (r->bits >= labels * step && has_prefix(&r->address, range)) {
            f->zone = last_labels(name, labels + 2);
            f->is_apex = f->zone.len == name->len;
            return true;
        }
    }
    return false;
}

static void find_reverse(struct dns *d, const struct dns_name *name, struct found *f)
{
    struct dns_reverse r;
    bool is_whole, in_range;

    if (dns_name_to_reverse(name, &r) < 0) {
        return;
    }
    is_whole = !r.has_rest && r.bits == (r.address.family == AF_INET ? 32 : 128);
    f->has_pointer = is_whole && dns_names_find_address(d, &r.address, &f->pointer);
    in_range = find_range(d, name, &r, f);
    f->is_ours = in_range || f->has_pointer;
    if (!in_range) {
        f->zone = *name; /* a known address outside of our ranges is a zone of its own */
        f->is_apex = true;
    }
    /* A part of an address has names below it, so it is there, too (RFC 8020). */
    f->exists = f->has_pointer || f->is_apex || (!r.has_rest && !is_whole);
}

static void find_localhost(const struct dns *d, const struct dns_name *name, struct found *f)
{
    if (dns_name_find_zone(name, &d->localhost) < 0) {
        return;
    }
    f->is_ours = f->exists = true;
    f->zone = d->localhost;
    f->addresses[0] = (struct dns_address){.family = AF_INET, .bytes = {127, 0, 0, 1}};
    f->addresses[1] = (struct dns_address){.family = AF_INET6, .bytes = {[15] = 1}};
    f->address_count = 2;
}

static void add_records(struct dns_reply *r, uint16_t type, const struct found *f,
                        const struct dns_soa *soa)
{
    for (size_t i = 0; i < f->address_count; i++) {
        bool is_v4 = f->addresses[i].family == AF_INET;

        if (type == DNS_ANY || type == (is_v4 ? DNS_A : DNS_AAAA)) {
            dns_reply_add_address(r, &f->addresses[i], DNS_OWN_TTL_S);
        }
    }
    if (f->has_pointer && (type == DNS_ANY || type == DNS_PTR)) {
        dns_reply_add_ptr(r, &f->pointer, DNS_OWN_TTL_S);
    }
    if (f->is_apex && (type == DNS_ANY || type == DNS_SOA)) {
        dns_reply_add_soa(r, DNS_ANSWER, soa);
    }
}

size_t dns_zone_answer(struct dns *d, const struct dns_query *q, uint16_t flags, uint8_t *ret_data,
                       size_t limit)
{
    const struct dns_question *asked = &q->question;
    struct found f = {0};
    struct dns_soa soa = {
        .zone = &f.zone,
        .server = &d->domain,
        .mailbox = &d->mailbox,
        .negative_ttl_s = DNS_OWN_NEGATIVE_TTL_S,
    };
    struct dns_reply r;

    if (asked->class != DNS_CLASS_IN || (asked->type >= DNS_TKEY && asked->type <= DNS_MAILA)) {
        return 0;
    }
    find_in_domain(d, &asked->name, &f);
    if (!f.is_ours) {
        find_reverse(d, &asked->name, &f);
    }
    if (!f.is_ours && (flags & DNS_FLAG_RA)) {
        find_localhost(d, &asked->name, &f);
    }
    if (!f.is_ours) {
        return 0;
    }
    soa.serial = dns_names_serial(d);
    dns_reply_begin(&r, ret_data, limit, q, f.exists ? DNS_NOERROR : DNS_NXDOMAIN,
                    (uint16_t)(flags | DNS_FLAG_AA));
    add_records(&r, asked->type, &f, &soa);
    if (r.answers == 0 && !(r.flags & DNS_FLAG_TC)) {
        dns_reply_add_soa(&r, DNS_AUTHORITY, &soa);
    }
    return dns_reply_end(&r);
}
