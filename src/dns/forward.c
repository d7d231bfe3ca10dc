/*
 * Questions to servers upstream. Each try has a socket, and so a port, and an id of its own, all
 * random; a connected socket hears nobody but the server. Who asks the same while it is out joins.
 */
#include "dns/dns_priv.h"

#include "base/str.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define DATAGRAMS_AT_ONCE 8
/* Replies to a try that do not fit it. More are somebody who guesses: the next try has another
 * port. */
#define STRAYS_MAX 32

struct forward {
    struct hash_node by_question;
    struct list node;
    struct dns *dns;
    struct dns_question question; /* name in lower case */
    bool tcp;                     /* a truncated answer is of no use to who asked */
    struct list waiters;

    union dns_endpoint servers[DNS_UPSTREAMS_MAX];
    unsigned server_count;
    unsigned tries, strays;
    bool no_edns;

    /* the try that is out */
    int fd;
    struct loop_source *source, *timer;
    bool is_stream;
    uint16_t id;
    struct buf in, out; /* of a stream */
};

static const union dns_endpoint *server_of(const struct forward *f)
{
    return &f->servers[(f->tries - 1) % f->server_count];
}

static void end_try(struct forward *f)
{
    loop_source_free(STEAL_PTR(f->source));
    close_p(&f->fd);
    buf_done(&f->in);
    buf_done(&f->out);
}

static void waiter_free(struct dns *d, struct dns_waiter *w)
{
    list_remove(&w->node);
    list_remove(&w->of_connection);
    if (w->asker.client) {
        w->asker.client->outstanding--;
    }
    d->outstanding--;
    free(w);
}

static void forward_free(struct forward *f)
{
    struct dns *d = f->dns;

    while (!list_is_empty(&f->waiters)) {
        waiter_free(d, LIST_ENTRY(f->waiters.next, struct dns_waiter, node));
    }
    end_try(f);
    loop_source_free(f->timer);
    list_remove(&f->node);
    free(f);
}

void dns_forwards_end(struct dns *d)
{
    while (!list_is_empty(&d->forwards)) {
        struct forward *f = LIST_ENTRY(d->forwards.next, struct forward, node);

        hash_remove(&d->forwards_by_question, &f->by_question);
        forward_free(f);
    }
}

/* ---- the end ---- */

/* Whether there is still somebody to answer. */
static bool is_there(const struct dns_waiter *w)
{
    return !w->asker.connection || list_is_linked(&w->of_connection);
}

static void answer_waiter(struct dns *d, struct dns_waiter *w, const uint8_t *answer,
                          size_t kept_len)
{
    struct dns_connection *c = w->asker.connection;

    list_remove(&w->of_connection);
    if (answer) {
        COUNT(d, from_upstream);
        dns_answer_to(d, &w->asker, &w->query, answer, kept_len, 0);
    } else {
        dns_answer_error(d, &w->asker, &w->query, DNS_SERVFAIL);
    }
    if (c) {
        dns_connection_check_ended(c);
    }
}

/* Answers all who wait, with SERVFAIL where there is no answer, and frees. */
static void finish(struct forward *f, const uint8_t *answer, size_t kept_len)
{
    struct dns *d = f->dns;

    hash_remove(&d->forwards_by_question, &f->by_question);
    while (!list_is_empty(&f->waiters)) {
        struct dns_waiter *w = LIST_ENTRY(f->waiters.next, struct dns_waiter, node);

        if (is_there(w)) {
            answer_waiter(d, w, answer, kept_len);
        }
        waiter_free(d, w);
    }
    forward_free(f);
}

/* ---- a try ---- */

static void on_datagram(void *arg, uint32_t events);
static void on_stream(void *arg, uint32_t events);

static int open_socket(struct forward *f, int type)
{
    const union dns_endpoint *server = server_of(f);
    _cleanup_close_ int fd = socket(server->sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    /* The kernel chooses the port at random. */
    if (fd < 0 ||
        (connect(fd, &server->sa, dns_endpoint_len(server)) < 0 && errno != EINPROGRESS)) {
        return -errno;
    }
    f->fd = STEAL_FD(fd);
    return 0;
}

static size_t build_query(struct forward *f, uint8_t ret_data[DNS_QUERY_MAX])
{
    f->dns->params.random(&f->id, sizeof(f->id));
    COUNT(f->dns, upstream_tries);
    return dns_query_build(ret_data, f->id, &f->question, !f->no_edns);
}

static void arm(struct forward *f)
{
    loop_source_set_deadline(f->timer, clock_mono_ms() + f->dns->params.try_timeout_ms);
}

static int send_datagram(struct forward *f)
{
    struct dns *d = f->dns;
    uint8_t data[DNS_QUERY_MAX];
    size_t len;
    int r;

    end_try(f);
    f->is_stream = false;
    f->strays = 0;
    r = open_socket(f, SOCK_DGRAM);
    if (r < 0) {
        return r;
    }
    len = build_query(f, data);
    if (send(f->fd, data, len, MSG_NOSIGNAL) < 0) {
        return -errno;
    }
    f->source = loop_add_io(d->params.loop, f->fd, EPOLLIN, on_datagram, f);
    arm(f);
    return 0;
}

static int send_stream(struct forward *f)
{
    uint8_t data[DNS_QUERY_MAX], head[2];
    size_t len;
    int r;

    end_try(f);
    f->is_stream = true;
    r = open_socket(f, SOCK_STREAM);
    if (r < 0) {
        return r;
    }
    buf_init(&f->in, 2 + DNS_MESSAGE_MAX);
    buf_init(&f->out, 2 + DNS_QUERY_MAX);
    len = build_query(f, data);
    head[0] = (uint8_t)(len >> 8);
    head[1] = (uint8_t)len;
    if (buf_append(&f->out, head, 2) < 0 || buf_append(&f->out, data, len) < 0) {
        return -ENOBUFS;
    }
    f->source = loop_add_io(f->dns->params.loop, f->fd, EPOLLOUT, on_stream, f);
    arm(f);
    return 0;
}

/* Asks the next server, or the same again when there is no other; gives up in the end. */
static void try_next(struct forward *f)
{
    while (f->tries < DNS_TRIES_MAX) {
        int r;

        f->tries++;
        r = send_datagram(f);
        if (r == 0) {
            return;
        }
        if (r != -EMFILE && r != -ENFILE) { /* which are no fault of the server's */
            dns_upstreams_failed(f->dns->upstreams, server_of(f));
        }
    }
    finish(f, NULL, 0);
}

/* The server said nothing, or refused the connection. */
static void no_answer(struct forward *f)
{
    COUNT(f->dns, upstream_timeouts);
    dns_upstreams_failed(f->dns->upstreams, server_of(f));
    try_next(f);
}

static void on_timeout(void *arg)
{
    no_answer(arg);
}

/* ---- answers ---- */

static void keep(struct forward *f, const struct dns_answer *a, const uint8_t *data)
{
    struct dns *d = f->dns;
    uint32_t most_s = a->is_negative ? DNS_CACHE_NEGATIVE_TTL_MAX_S : DNS_CACHE_TTL_MAX_S;

    if (a->is_cacheable) {
        dns_cache_put(d->cache, &f->question, data, a->kept_len,
                      a->ttl_s < most_s ? a->ttl_s : most_s, d->params.clock->boot_ms());
    }
}

/* An answer to this try. */
static void on_answer(struct forward *f, const struct dns_answer *a, const uint8_t *data)
{
    bool is_error = a->rcode != DNS_NOERROR && a->rcode != DNS_NXDOMAIN;

    if (!f->no_edns &&
        (a->rcode == DNS_FORMERR || a->rcode == DNS_NOTIMP || a->rcode == DNS_BADVERS)) {
        f->no_edns = true; /* an old server: the same again without (RFC 6891, 6.2.2) */
        f->tries--;
        try_next(f);
    } else if (is_error && f->tries < f->server_count) {
        try_next(f);
    } else if (is_error) {
        finish(f, NULL, 0);
    } else if (a->is_truncated && f->is_stream) {
        try_next(f);
    } else if (a->is_truncated && f->tcp) {
        if (send_stream(f) < 0) {
            no_answer(f);
        }
    } else {
        keep(f, a, data);
        finish(f, data, a->kept_len);
    }
}

/* Whether these bytes answer the question that is out. */
static bool is_answer(const struct forward *f, const uint8_t *data, size_t len,
                      struct dns_answer *ret)
{
    if (dns_answer_parse(data, len, ret) < 0 || ret->id != f->id ||
        (ret->has_question && !dns_question_eq(&ret->question, &f->question))) {
        COUNT(f->dns, strays);
        return false;
    }
    return true;
}

static void on_datagram(void *arg, uint32_t events)
{
    struct forward *f = arg;
    uint8_t data[QUERY_BYTES_MAX]; /* we said that we take DNS_UDP_MAX */
    struct dns_answer a;

    (void)events;
    for (int i = 0; i < DATAGRAMS_AT_ONCE; i++) {
        ssize_t n = recv(f->fd, data, sizeof(data), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n < 0) {
            no_answer(f);
            return;
        }
        if (is_answer(f, data, (size_t)n, &a)) {
            on_answer(f, &a, data);
            return;
        }
        if (++f->strays > STRAYS_MAX) {
            no_answer(f);
            return;
        }
    }
}

/* What a stream has brought. 0: not all yet; 1: f is done with this try, or freed; -errno. */
static int read_stream(struct forward *f)
{
    struct dns_answer a;
    const uint8_t *p;
    size_t len;
    ssize_t n = buf_read_fd(&f->in, f->fd, DNS_MESSAGE_MAX);

    if (n <= 0) {
        return n == -EAGAIN ? 0 : -ECONNRESET;
    }
    p = buf_head(&f->in);
    if (!p || f->in.len < 2) {
        return 0;
    }
    len = (size_t)(p[0] << 8 | p[1]);
    if (f->in.len - 2 < len) {
        return 0;
    }
    if (!is_answer(f, p + 2, len, &a)) {
        return -EBADMSG;
    }
    on_answer(f, &a, p + 2);
    return 1;
}

static int write_stream(struct forward *f)
{
    ssize_t n = buf_write_fd(&f->out, f->fd);

    if (n < 0 && n != -EAGAIN) {
        return (int)n;
    }
    if (f->out.len == 0) {
        loop_source_set_events(f->source, EPOLLIN);
    }
    return 0;
}

static void on_stream(void *arg, uint32_t events)
{
    struct forward *f = arg;
    int r;

    (void)events;
    r = f->out.len > 0 ? write_stream(f) : read_stream(f);
    if (r < 0) {
        no_answer(f);
    }
}

/* ---- the beginning ---- */

static uint64_t hash_of(const struct dns *d, const struct dns_question *q)
{
    return hash_bytes(&d->key, q->name.wire, q->name.len) + q->type;
}

static struct forward *find(const struct dns *d, const struct dns_question *q, bool tcp)
{
    struct hash_node *n = hash_first(&d->forwards_by_question, hash_of(d, q));

    for (; n; n = hash_next(n)) {
        struct forward *f = HASH_ENTRY(n, struct forward, by_question);

        if (f->tcp == tcp && dns_question_eq(&f->question, q)) {
            return f;
        }
    }
    return NULL;
}

/* A listener of ours that a resolv.conf names would ask itself. */
static bool is_ours(const struct dns *d, const union dns_endpoint *server)
{
    list_for_each (it, &d->listeners) {
        if (dns_endpoint_eq(&LIST_ENTRY(it, struct dns_listener, node)->bound, server)) {
            return true;
        }
    }
    return false;
}

static struct forward *forward_new(struct dns *d, const struct dns_question *q, bool tcp)
{
    union dns_endpoint servers[DNS_UPSTREAMS_MAX];
    unsigned count = dns_upstreams_get(d->upstreams, servers);
    struct forward *f = x_calloc(1, sizeof(*f));

    for (unsigned i = 0; i < count; i++) {
        if (!is_ours(d, &servers[i])) {
            f->servers[f->server_count++] = servers[i];
        }
    }
    if (f->server_count == 0) {
        free(f);
        return NULL;
    }
    f->dns = d;
    f->question = *q;
    f->tcp = tcp;
    f->fd = -1;
    list_init(&f->waiters);
    f->timer = loop_add_timer(d->params.loop, -1, on_timeout, f);
    list_append(&d->forwards, &f->node);
    hash_add(&d->forwards_by_question, &f->by_question, hash_of(d, q));
    return f;
}

static bool has_room(const struct dns *d, const struct dns_client *c)
{
    unsigned left = d->params.outstanding_max - d->outstanding;
    unsigned share = (left + 3) / 4;

    return c->outstanding <
           (share < d->params.guest_outstanding ? share : d->params.guest_outstanding);
}

static void add_waiter(struct forward *f, const struct dns_asker *asker, const struct dns_query *q)
{
    struct dns_waiter *w = x_calloc(1, sizeof(*w));

    w->asker = *asker;
    w->query = *q;
    list_append(&f->waiters, &w->node);
    if (asker->connection) {
        list_append(&asker->connection->waiting, &w->of_connection);
    }
    asker->client->outstanding++;
    f->dns->outstanding++;
}

int dns_forward(struct dns *d, const struct dns_asker *asker, const struct dns_query *q)
{
    struct dns_question lower = q->question;
    bool tcp = asker->connection != NULL;
    struct forward *f;

    dns_name_lower(&lower.name);
    if (!has_room(d, asker->client)) {
        return -EBUSY;
    }
    f = find(d, &lower, tcp);
    if (f) {
        add_waiter(f, asker, q);
        return 0;
    }
    f = forward_new(d, &lower, tcp);
    if (!f) {
        return -ENONET;
    }
    add_waiter(f, asker, q);
    try_next(f);
    return 0;
}
