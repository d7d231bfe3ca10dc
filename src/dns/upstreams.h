/*
 * The servers that a resolv.conf names, read again whenever it is another file or was changed.
 * Threads: the loop's.
 */
#pragma once

#include "dns/dns.h"
#include "dns/endpoint.h"

struct dns_upstreams;

/* path may be NULL: there are none. */
struct dns_upstreams *dns_upstreams_new(const char *path, uint16_t port);
void dns_upstreams_free(struct dns_upstreams *u);

/* Looks at the file. True: there are other servers than before. */
bool dns_upstreams_refresh(struct dns_upstreams *u);
/* The servers in the order in which they are to be asked; the count. */
unsigned dns_upstreams_get(const struct dns_upstreams *u,
                           union dns_endpoint ret_servers[DNS_UPSTREAMS_MAX]);
/* It did not answer: the next one becomes the first, so that not each question waits for it. */
void dns_upstreams_failed(struct dns_upstreams *u, const union dns_endpoint *server);

/* The first DNS_UPSTREAMS_MAX `nameserver` lines with an address, as resolv.conf(5) has them: the
 * word begins the line, an IPv6 one may have "%eth0" or "%2". The count. */
unsigned dns_upstreams_parse(const char *text, uint16_t port,
                             union dns_endpoint ret_servers[DNS_UPSTREAMS_MAX]);
