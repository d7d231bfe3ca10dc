/* Names: text, wire, case, and the reverse ones. */
#include "codec/dns_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Lengths of labels are below 'A', so a whole name can be changed at once. */
static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c;
}

static bool bytes_eq(const uint8_t *a, const uint8_t *b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (lower(a[i]) != lower(b[i])) {
            return false;
        }
    }
    return true;
}

int dns_name_from_text(const char *text, struct dns_name *ret_name)
{
    struct dns_name n = {0};
    size_t out = 0;

    if (strcmp(text, ".") == 0) {
        text++;
    } else if (!text[0]) {
        return -EINVAL;
    }
    while (text[0]) {
        size_t len = strcspn(text, ".");

        if (len == 0 || len > DNS_LABEL_MAX || out + len + 2 > DNS_NAME_MAX) {
            return -EINVAL;
        }
        n.wire[out] = (uint8_t)len;
        memcpy(n.wire + out + 1, text, len);
        out += len + 1;
        text += len;
        text += text[0] == '.';
    }
    n.len = (uint8_t)(out + 1);
    *ret_name = n;
    return 0;
}

static bool is_plain(uint8_t c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

void dns_name_to_text(const struct dns_name *name, char ret_text[DNS_TEXT_SIZE])
{
    char *out = ret_text;

    for (size_t at = 0; name->wire[at]; at += 1U + name->wire[at]) {
        if (at > 0) {
            *out++ = '.';
        }
        for (size_t i = 1; i <= name->wire[at]; i++) {
            uint8_t c = name->wire[at + i];

            if (is_plain(c)) {
                *out++ = (char)c;
            } else {
                *out++ = '\\';
                *out++ = (char)('0' + c / 100);
                *out++ = (char)('0' + c / 10 % 10);
                *out++ = (char)('0' + c % 10);
            }
        }
    }
    if (out == ret_text) {
        *out++ = '.';
    }
    *out = '\0';
}

void dns_name_lower(struct dns_name *name)
{
    for (size_t i = 0; i < name->len; i++) {
        name->wire[i] = lower(name->wire[i]);
    }
}

bool dns_name_eq(const struct dns_name *a, const struct dns_name *b)
{
    return a->len == b->len && bytes_eq(a->wire, b->wire, a->len);
}

int dns_name_find_zone(const struct dns_name *name, const struct dns_name *zone)
{
    int at = 0;

    /* Only at the beginning of a label: its bytes may look like labels themselves. */
    while (name->len - at > zone->len) {
        at += 1 + name->wire[at];
    }
    return name->len - at == zone->len && bytes_eq(name->wire + at, zone->wire, zone->len) ? at
                                                                                           : -1;
}

int dns_name_parse(const uint8_t *data, size_t len, size_t *offset, struct dns_name *ret_name)
{
    size_t at = *offset, run = at; /* where the labels begin that are read now, */
    size_t limit = len;            /* and where they have to be over */
    size_t end = 0;                /* behind the first pointer */
    size_t out = 0;

    for (;;) {
        size_t label;

        if (at >= limit) {
            return -EBADMSG;
        }
        label = data[at];
        if ((label & DNS_POINTER) == DNS_POINTER) {
            size_t target;

            if (limit - at < 2) {
                return -EBADMSG;
            }
            target = dns_get_16(data + at) & 0x3FFFU;
            /* Always further back, so it ends; and into a name that is over by then, so that it
             * does not change with what comes later. */
            if (target >= run || target < DNS_HEADER_SIZE) {
                return -EBADMSG;
            }
            end = end ? end : at + 2;
            limit = run;
            run = at = target;
            continue;
        }
        /* The two other kinds of label were given up (RFC 6891, 5). A label leaves the root room.
         */
        if (label > DNS_LABEL_MAX || limit - at < label + 1 ||
            out + label + (label ? 2 : 1) > DNS_NAME_MAX) {
            return -EBADMSG;
        }
        memcpy(ret_name->wire + out, data + at, label + 1);
        out += label + 1;
        at += label + 1;
        if (label == 0) {
            break;
        }
    }
    ret_name->len = (uint8_t)out;
    *offset = end ? end : at;
    return 0;
}

/* ---- reverse names ---- */

/* The labels of a name, first to last. */
struct labels {
    uint8_t at[DNS_NAME_MAX / 2]; /* offsets */
    size_t count;
};

static struct labels split(const struct dns_name *name)
{
    struct labels l = {0};

    for (size_t at = 0; name->wire[at]; at += 1U + name->wire[at]) {
        l.at[l.count++] = (uint8_t)at;
    }
    return l;
}

/* "0" to "255" as the one form that it has. -1: no octet. */
static int parse_octet(const uint8_t *label)
{
    int value = 0;

    if (label[0] > 3 || (label[0] > 1 && label[1] == '0')) {
        return -1;
    }
    for (size_t i = 1; i <= label[0]; i++) {
        if (label[i] < '0' || label[i] > '9') {
            return -1;
        }
        value = value * 10 + label[i] - '0';
    }
    return value > 255 ? -1 : value;
}

static int parse_nibble(const uint8_t *label)
{
    uint8_t c = lower(label[1]);

    if (label[0] != 1) {
        return -1;
    }
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int dns_name_to_reverse(const struct dns_name *name, struct dns_reverse *ret_reverse)
{
    static const struct dns_name v4 = {14, "\7in-addr\4arpa"};
    static const struct dns_name v6 = {10, "\3ip6\4arpa"};
    bool is_v4 = dns_name_find_zone(name, &v4) >= 0;
    struct dns_reverse r = {.address.family = is_v4 ? AF_INET : AF_INET6};
    unsigned step = is_v4 ? 8 : 4;
    struct labels l;

    if (!is_v4 && dns_name_find_zone(name, &v6) < 0) {
        return -EINVAL;
    }
    l = split(name);
    for (size_t left = l.count - 2; left > 0; left--) {
        const uint8_t *label = name->wire + l.at[left - 1];
        int value = is_v4 ? parse_octet(label) : parse_nibble(label);

        if (value < 0 || r.bits == (is_v4 ? 32 : 128)) {
            r.has_rest = true;
            break;
        }
        r.address.bytes[r.bits / 8] |= (uint8_t)(value << (8 - step - r.bits % 8));
        r.bits += step;
    }
    *ret_reverse = r;
    return 0;
}
