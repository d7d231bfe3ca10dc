/* Between the parts of codec/dns.h. */
#pragma once

#include "codec/dns.h"

#define DNS_FLAG_QR 0x8000
#define DNS_OPCODE_MASK 0x7800
#define DNS_RCODE_MASK 0x000F
#define DNS_OPT_SIZE 11 /* of one without options */
/* TC and a pointer of a compressed name. */
#define DNS_POINTER 0xC0

struct dns_header {
    uint16_t id, flags, questions, answers, authorities, additionals;
};

/* One record of a message; rdata is at `data` there. */
struct dns_record {
    struct dns_name name;
    uint16_t type, class;
    uint32_t ttl_s;   /* of OPT: its flags, as they are */
    size_t ttl_at;    /* offset of the TTL */
    size_t data, len; /* offset and length of the rdata */
};

static inline uint16_t dns_get_16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t dns_get_32(const uint8_t *p)
{
    return (uint32_t)dns_get_16(p) << 16 | dns_get_16(p + 2);
}

static inline void dns_set_16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void dns_set_32(uint8_t *p, uint32_t v)
{
    dns_set_16(p, (uint16_t)(v >> 16));
    dns_set_16(p + 2, (uint16_t)v);
}

/* len ≥ DNS_HEADER_SIZE. */
struct dns_header dns_header_read(const uint8_t *data);
void dns_header_write(uint8_t *data, const struct dns_header *h);

/* Each reads at *offset and moves it behind. 0 or -EBADMSG. */
int dns_question_parse(const uint8_t *data, size_t len, size_t *offset, struct dns_question *ret);
int dns_record_parse(const uint8_t *data, size_t len, size_t *offset, struct dns_record *ret);

/* Writes header (as dns_reply_begin), and the question when the query had one. */
size_t dns_question_write(uint8_t *data, const struct dns_question *q);
/* Writes an OPT record with the upper bits of rcode. Its length. */
size_t dns_opt_write(uint8_t *data, uint16_t udp_size, uint16_t rcode);
