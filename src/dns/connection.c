/* A client on TCP (RFC 7766): messages with their length before them, any number, answered as the
 * answers come. */
#include "dns/dns_priv.h"

#include "base/str.h"

#include <errno.h>
#include <sys/epoll.h>

/* With more to send than this nothing is read, so that a client that does not read gets no
 * further; what it has asked upstream by then may still come. */
#define OUT_PAUSE ((size_t)64 * 1024)
#define OUT_MAX ((size_t)512 * 1024)

static bool is_idle(const struct dns_connection *c)
{
    return list_is_empty(&c->waiting) && c->out.len == 0;
}

/* A whole message went either way. */
static void note_activity(struct dns_connection *c)
{
    list_remove(&c->node);
    list_append(&c->listener->connections, &c->node);
    loop_source_set_deadline(c->timer, clock_mono_ms() + c->listener->dns->params.tcp_idle_ms);
}

static void fail(struct dns_connection *c)
{
    c->has_failed = true;
    loop_source_set_events(c->source, 0);
    loop_source_set_deadline(c->timer, 0);
}

static void update_events(struct dns_connection *c)
{
    bool reads = !c->has_ended && c->out.len <= OUT_PAUSE;

    if (!c->has_failed) {
        loop_source_set_events(c->source, (reads ? EPOLLIN : 0) | (c->out.len > 0 ? EPOLLOUT : 0));
    }
}

void dns_connection_free(struct dns_connection *c)
{
    while (!list_is_empty(&c->waiting)) {
        list_remove(c->waiting.next); /* they find nobody to answer */
    }
    if (c->client) {
        c->client->connections--;
    }
    c->listener->connection_count--;
    list_remove(&c->node);
    loop_source_free(c->source);
    loop_source_free(c->timer);
    close_p(&c->fd);
    buf_done(&c->in);
    buf_done(&c->out);
    free(c);
}

static void flush(struct dns_connection *c)
{
    ssize_t n = buf_write_fd(&c->out, c->fd);

    if (n < 0 && n != -EAGAIN) {
        fail(c);
        return;
    }
    if (c->out.len == 0) {
        note_activity(c);
    }
    update_events(c);
}

void dns_connection_send(struct dns_connection *c, const uint8_t *data, size_t len)
{
    uint8_t head[2] = {(uint8_t)(len >> 8), (uint8_t)len};

    if (c->has_failed) {
        return;
    }
    if (buf_append(&c->out, head, sizeof(head)) < 0 || buf_append(&c->out, data, len) < 0) {
        fail(c);
        return;
    }
    flush(c);
}

void dns_connection_check_ended(struct dns_connection *c)
{
    if (c->has_ended && is_idle(c)) {
        fail(c);
    }
}

/* Answers the whole messages that are there, as long as replies get away. */
static void process(struct dns_connection *c)
{
    while (!c->has_failed && c->out.len <= OUT_PAUSE && c->in.len >= 2) {
        const uint8_t *p = buf_head(&c->in);
        size_t len = p ? (size_t)(p[0] << 8 | p[1]) : 0;
        struct dns_asker asker = {
            .listener = c->listener,
            .connection = c,
            .client = c->client,
            .from = c->from,
        };

        if (len < DNS_HEADER_SIZE || len > QUERY_BYTES_MAX) {
            fail(c);
            return;
        }
        if (c->in.len - 2 < len) {
            return;
        }
        note_activity(c);
        dns_ask(c->listener->dns, &asker, p + 2, len);
        buf_consume(&c->in, 2 + len);
    }
}

static void on_io(void *arg, uint32_t events)
{
    struct dns_connection *c = arg;

    if (c->has_failed || (events & (EPOLLERR | EPOLLHUP))) {
        dns_connection_free(c);
        return;
    }
    if (events & EPOLLOUT) {
        flush(c);
    }
    if ((events & EPOLLIN) && !c->has_failed) {
        ssize_t n = buf_read_fd(&c->in, c->fd, QUERY_BYTES_MAX);

        if (n < 0 && n != -EAGAIN && n != -ENOBUFS) {
            dns_connection_free(c);
            return;
        }
        c->has_ended |= n == 0;
    }
    process(c);
    update_events(c);
    dns_connection_check_ended(c);
}

/* Nothing whole has come or gone for as long as may be. What we wait for ourselves is no fault of
 * the client's. */
static void on_timer(void *arg)
{
    struct dns_connection *c = arg;

    if (!c->has_failed && !list_is_empty(&c->waiting) && c->out.len == 0) {
        note_activity(c);
        return;
    }
    dns_connection_free(c);
}

void dns_connection_new(struct dns_listener *l, int fd, struct dns_client *client,
                        const union dns_endpoint *from)
{
    struct loop *loop = l->dns->params.loop;
    struct dns_connection *c = x_calloc(1, sizeof(*c));

    c->listener = l;
    c->client = client;
    c->from = *from;
    c->fd = fd;
    buf_init(&c->in, 2 + QUERY_BYTES_MAX);
    buf_init(&c->out, OUT_MAX);
    list_init(&c->waiting);
    list_append(&l->connections, &c->node);
    l->connection_count++;
    if (client) {
        client->connections++;
    }
    c->source = loop_add_io(loop, fd, EPOLLIN, on_io, c);
    c->timer = loop_add_timer(loop, -1, on_timer, c);
    note_activity(c);
}
