/*
 * Answers of upstream, by name and type (class IN, asked without DNSSEC: so that is all that a
 * question has), until their TTL is over. Least recently used ones make room. Bytes are those of
 * messages and what is kept beside each. Threads: the loop's.
 */
#pragma once

#include "codec/dns.h"
#include "dns/hash.h"

struct dns_cache;

/* key is borrowed for its life. */
struct dns_cache *dns_cache_new(const struct hash_key *key, unsigned entries_max, size_t bytes_max);
void dns_cache_free(struct dns_cache *c);
void dns_cache_clear(struct dns_cache *c);

/* Copies len bytes of an answer to q, in the place of what was there. ttl_s 0 keeps nothing, nor
 * does what is larger than a sixteenth of all. */
void dns_cache_put(struct dns_cache *c, const struct dns_question *q, const uint8_t *answer,
                   size_t len, uint32_t ttl_s, int64_t now_ms);
/* The answer, until the next call, and how old it is; NULL: there is none. */
const uint8_t *dns_cache_get(struct dns_cache *c, const struct dns_question *q, int64_t now_ms,
                             size_t *ret_len, uint32_t *ret_age_s);

/* Entries and bytes now. */
unsigned dns_cache_count(const struct dns_cache *c);
size_t dns_cache_bytes(const struct dns_cache *c);
