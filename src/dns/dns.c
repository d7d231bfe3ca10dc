#include "dns/dns_priv.h"

#include "base/str.h"

#include <errno.h>

/* Leaves a label of any length room before the domain, and the mailbox. */
#define DOMAIN_MAX (DNS_NAME_MAX - 1 - DNS_LABEL_MAX)

static const struct dns_params defaults = {
    .guest_rate = 200,
    .guest_burst = 400,
    .guest_outstanding = 64,
    .outstanding_max = 1024,
    .try_timeout_ms = 2000,
    .upstream_port = 53,
    .cache_entries = 4096,
    .cache_bytes = (size_t)4 * 1024 * 1024,
    .tcp_max = 256,
    .tcp_guest_max = 16,
    .tcp_idle_ms = 10000,
    .clock = &clock_system,
    .random = random_bytes,
};

#define DEFAULT(p, member) ((p)->member = (p)->member ? (p)->member : defaults.member)

static void fill_defaults(struct dns_params *p)
{
    DEFAULT(p, guest_rate);
    DEFAULT(p, guest_burst);
    DEFAULT(p, guest_outstanding);
    DEFAULT(p, outstanding_max);
    DEFAULT(p, try_timeout_ms);
    DEFAULT(p, upstream_port);
    DEFAULT(p, cache_entries);
    DEFAULT(p, cache_bytes);
    DEFAULT(p, tcp_max);
    DEFAULT(p, tcp_guest_max);
    DEFAULT(p, tcp_idle_ms);
    DEFAULT(p, clock);
    DEFAULT(p, random);
}

static int parse_domain(const char *text, struct dns_name *ret_name, struct err *err)
{
    _cleanup_free_ char *copy = x_strdup(text);
    char *rest = copy, *label;

    while ((label = strsep(&rest, "."))) {
        if (!str_is_dns_label(label)) {
            return err_set(err, ERR_INVALID, "'%s' is no domain of labels in lower case", text);
        }
    }
    if (dns_name_from_text(text, ret_name) < 0 || ret_name->len > DOMAIN_MAX) {
        return err_set(err, ERR_INVALID, "domain '%s' is too long", text);
    }
    return 0;
}

static int check_range(const struct dns_range *r, struct err *err)
{
    unsigned most = r->address.family == AF_INET ? 32 : 128;

    if ((r->address.family != AF_INET && r->address.family != AF_INET6) || r->prefix < 8 ||
        r->prefix > most) {
        return err_set(err, ERR_INVALID, "a range of reverse names has a prefix of %u", r->prefix);
    }
    return 0;
}

static void copy_params(struct dns *d, const struct dns_params *params)
{
    struct dns_range *ranges = x_calloc(params->range_count + 1, sizeof(*ranges));

    if (params->range_count > 0) {
        memcpy(ranges, params->ranges, params->range_count * sizeof(*ranges));
    }
    d->params = *params;
    d->params.ranges = ranges;
    d->params.domain = x_strdup(params->domain);
    d->params.resolv_conf = NULL; /* upstreams.c has it */
    fill_defaults(&d->params);
}

int dns_open(const struct dns_params *params, struct dns **ret_dns, struct err *err)
{
    struct dns_name domain, mailbox, localhost;
    _cleanup_free_ char *text = x_asprintf("hostmaster.%s", params->domain);
    struct dns *d;

    if (parse_domain(params->domain, &domain, err) < 0) {
        return -1;
    }
    if (dns_name_from_text(text, &mailbox) < 0 || dns_name_from_text("localhost", &localhost) < 0) {
        return err_set(err, ERR_INVALID, "domain '%s' is too long", params->domain);
    }
    for (size_t i = 0; i < params->range_count; i++) {
        if (check_range(&params->ranges[i], err) < 0) {
            return -1;
        }
    }
    d = x_calloc(1, sizeof(*d));
    copy_params(d, params);
    d->domain = domain;
    d->mailbox = mailbox;
    d->localhost = localhost;
    d->params.random(&d->key, sizeof(d->key));
    lock_init(&d->lock);
    dns_names_init(&d->names);
    list_init(&d->listeners);
    list_init(&d->forwards);
    hash_init(&d->forwards_by_question);
    d->clients = dns_clients_new(&d->key, d->params.guest_rate, d->params.guest_burst);
    d->cache = dns_cache_new(&d->key, d->params.cache_entries, d->params.cache_bytes);
    d->upstreams = dns_upstreams_new(params->resolv_conf, d->params.upstream_port);
    *ret_dns = d;
    return 0;
}

static void close_on_loop(void *arg)
{
    struct dns *d = arg;

    dns_forwards_end(d);
    while (!list_is_empty(&d->listeners)) {
        dns_listener_free(LIST_ENTRY(d->listeners.next, struct dns_listener, node));
    }
}

void dns_close(struct dns *d)
{
    if (!d) {
        return;
    }
    loop_call(d->params.loop, close_on_loop, d);
    hash_done(&d->forwards_by_question);
    dns_clients_free(d->clients);
    dns_cache_free(d->cache);
    dns_upstreams_free(d->upstreams);
    dns_names_done(&d->names);
    lock_done(&d->lock);
    free((void *)d->params.domain);
    free((void *)d->params.ranges);
    free(d);
}

void dns_get_stats(struct dns *d, struct dns_stats *ret_stats)
{
    leaf_lock(&d->lock);
    *ret_stats = d->stats;
    leaf_unlock(&d->lock);
}
