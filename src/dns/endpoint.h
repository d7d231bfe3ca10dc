/* Addresses of sockets, IPv4 or IPv6. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

union dns_endpoint {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

/* What of ours a datagram came to, and goes out from again. */
struct dns_local {
    bool is_known;
    struct in_addr ipv4;
    struct in6_addr ipv6;
    unsigned ifindex; /* of a link-local one */
};

static inline socklen_t dns_endpoint_len(const union dns_endpoint *e)
{
    return e->sa.sa_family == AF_INET ? sizeof(e->in) : sizeof(e->in6);
}

static inline bool dns_endpoint_eq(const union dns_endpoint *a, const union dns_endpoint *b)
{
    if (a->sa.sa_family != b->sa.sa_family) {
        return false;
    }
    if (a->sa.sa_family == AF_INET) {
        return a->in.sin_port == b->in.sin_port && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    }
    return a->in6.sin6_port == b->in6.sin6_port && a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
           memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
}
