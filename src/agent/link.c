#include "agent/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Rounds of one link_turn, each up to LINK_OUT_MAX: the other sources of the loop, a command's few
 * bytes among them, wait for it. */
#define LINK_ROUNDS 4

static void on_event(struct source *source, uint32_t events)
{
    struct link *link = source->owner;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        link->readable = true;
    }
    if (events & EPOLLOUT) {
        link->writable = true;
    }
    if (link->one_host && (events & (EPOLLHUP | EPOLLERR))) {
        link->ended = true;
    }
}

void link_init(struct link *link, const struct link_ops *ops, void *ctx, const char *version)
{
    *link = (struct link){
        .source = {.fd = -1, .handle = on_event, .owner = link},
        .ops = ops,
        .ctx = ctx,
        .version = version,
    };
    buf_init(&link->in, LINK_IN_MAX);
    buf_init(&link->out, LINK_OUT_MAX);
}

void link_done(struct link *link, struct poller *poller)
{
    poller_close(poller, &link->source);
    buf_done(&link->in);
    buf_done(&link->out);
}

int link_open(struct link *link, struct poller *poller, int fd)
{
    link->readable = true;
    link->writable = true;
    /* Edges: without a host, a virtio port is "readable, hung up" for ever. */
    return poller_add(poller, &link->source, fd, EPOLLIN | EPOLLOUT | EPOLLET);
}

static void end_generation(struct link *link)
{
    link->greeted = false;
    link->ops->ended(link->ctx);
}

/* All but the rest of a frame whose beginning is on its way. */
static void drop_output(struct link *link)
{
    link->out.len = link->begun;
}

void link_close(struct link *link, struct poller *poller)
{
    end_generation(link);
    poller_close(poller, &link->source);
    buf_done(&link->in);
    buf_done(&link->out);
    buf_init(&link->in, LINK_IN_MAX);
    buf_init(&link->out, LINK_OUT_MAX);
    link->lost = false;
    link->ended = false;
    link->begun = 0;
}

static void put_fatal(struct link *link, const char *reason)
{
    size_t len = strlen(reason);
    struct frame f = {
        .type = FRAME_FATAL,
        .payload = (const uint8_t *)reason,
        .length = (uint32_t)(len < LINK_FATAL_MAX ? len : LINK_FATAL_MAX),
    };

    /* Without room the host does not read, or has been told already. */
    (void)!frame_put(&link->out, &f);
}

void link_fail(struct link *link, const char *reason)
{
    (void)snprintf(link->fatal, sizeof(link->fatal), "%s", reason);
    end_generation(link);
    drop_output(link);
    put_fatal(link, link->fatal);
}

static int put_hello_ok(struct link *link, const uint8_t *nonce, uint16_t version)
{
    size_t len = strlen(link->version);
    uint8_t payload[FRAME_HELLO_MAX];
    _cleanup_buf_ struct buf b;

    buf_init(&b, sizeof(payload));
    if (buf_append(&b, nonce, FRAME_NONCE_SIZE) || buf_append_le16(&b, version) ||
        buf_append_le32(&b, link->ops->sessions(link->ctx)) ||
        buf_append(&b, link->version, len < buf_room(&b) ? len : buf_room(&b))) {
        return -ENOBUFS;
    }
    return frame_put(&link->out, &(struct frame){.type = FRAME_HELLO_OK,
                                                 .payload = buf_head(&b),
                                                 .length = (uint32_t)b.len});
}

static void on_hello(struct link *link, const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    const uint8_t *nonce;
    uint16_t min, max, version;

    if (frame_take_bytes(&r, FRAME_NONCE_SIZE, &nonce) < 0 || frame_take_u16(&r, &min) < 0 ||
        frame_take_u16(&r, &max) < 0) {
        return;
    }
    end_generation(link);
    drop_output(link);
    version = max < FRAME_PROTO_MAX ? max : FRAME_PROTO_MAX;
    if (link->fatal[0]) {
        put_fatal(link, link->fatal);
    } else if (min > max || version < min || version < FRAME_PROTO_MIN) {
        char text[LINK_FATAL_MAX];

        (void)snprintf(text, sizeof(text),
                       "no common protocol version: the host speaks %u to %u, the agent %u to %u",
                       min, max, FRAME_PROTO_MIN, FRAME_PROTO_MAX);
        put_fatal(link, text);
    } else if (put_hello_ok(link, nonce, version) == 0) {
        link->greeted = true;
    }
}

static void on_frame(struct link *link, const struct frame *f)
{
    if (f->type == FRAME_HELLO) {
        on_hello(link, f);
    } else if (!link->greeted) {
        return;
    } else if (f->type != FRAME_PING) {
        link->ops->frame(link->ctx, f, &link->out);
    } else if (f->length <= FRAME_PING_MAX) {
        struct frame pong = *f;

        pong.type = FRAME_PONG;
        (void)!frame_put(&link->out, &pong);
    }
}

size_t link_feed(struct link *link, const uint8_t *data, size_t len)
{
    size_t room = buf_room(&link->in);
    size_t n = len < room ? len : room;

    return buf_append(&link->in, data, n) == 0 ? n : 0;
}

void link_process(struct link *link)
{
    while (link->in.len > 0 && buf_room(&link->out) >= LINK_ANSWER_MAX) {
        struct frame f;
        int n;

        if (link->lost) {
            buf_consume(&link->in, frame_scan(buf_head(&link->in), link->in.len, FRAME_HELLO));
            if (link->in.len < FRAME_HEADER_SIZE) {
                return;
            }
            link->lost = false;
        }
        n = frame_parse(buf_head(&link->in), link->in.len, &f);
        if (n == 0) {
            return;
        }
        if (n < 0) {
            /* Of a frame that is two halves nothing is looked at: its payload is not the host's
             * word, and might well contain something that looks like a HELLO. */
            end_generation(link);
            link->lost = true;
            buf_consume(&link->in, n == -EBADMSG ? frame_size(f.length) : 1);
            continue;
        }
        on_frame(link, &f);
        buf_consume(&link->in, (size_t)n);
    }
}

/* Up to the first piece that is lent. */
static void fill(struct link *link, struct link_piece *piece)
{
    piece->len = 0;
    /* Room for answers stays: the host's frames are taken while the port is blocked. */
    while (link->greeted && link->out.len < LINK_FILL_MAX && piece->len == 0 &&
           buf_room(&link->out) >= FRAME_MAX + LINK_ANSWER_MAX) {
        bool lent = buf_room(&link->out) >= LINK_PIECE_MAX + LINK_ANSWER_MAX;

        if (!link->ops->next(link->ctx, &link->out, lent ? piece : NULL)) {
            return;
        }
    }
}

/* There was room when it was lent. */
static void keep(struct link *link, const struct link_piece *piece)
{
    (void)!buf_append(&link->out, piece->data, piece->len);
}

void link_fill(struct link *link)
{
    struct link_piece piece;

    fill(link, &piece);
    keep(link, &piece);
}

/* n bytes at the head of out have been written: follows the frames' borders. */
static void written(struct link *link, size_t n)
{
    while (n > 0) {
        size_t piece;

        if (link->begun == 0) {
            struct frame f;
            int size = frame_parse(buf_head(&link->out), link->out.len, &f);

            link->begun = size > 0 ? (size_t)size : link->out.len;
        }
        piece = n < link->begun ? n : link->begun;
        buf_consume(&link->out, piece);
        link->begun -= piece;
        n -= piece;
    }
}

/* Returns whether anything was written. */
static bool write_some(struct link *link)
{
    ssize_t n;

    if (!link->writable || link->out.len == 0) {
        return false;
    }
    do {
        n = write(link->source.fd, buf_head(&link->out), link->out.len);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        /* EAGAIN also while no host is connected. */
        link->writable = false;
        return false;
    }
    written(link, (size_t)n);
    return n > 0;
}

/* Writes what is lent, which is behind all of out; what cannot be written now is kept. Returns
 * whether anything was written. */
static bool write_piece(struct link *link, const struct link_piece *piece)
{
    size_t done = 0;

    while (link->writable && link->out.len == 0 && done < piece->len) {
        ssize_t n = write(link->source.fd, piece->data + done, piece->len - done);

        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            link->writable = false;
        }
    }
    if (done < piece->len) {
        keep(link, piece);
        written(link, done);
    }
    return done > 0;
}

/* Returns whether anything was read. */
static bool read_some(struct link *link)
{
    ssize_t n;

    if (!link->readable || buf_room(&link->in) == 0) {
        return false;
    }
    n = buf_read_fd(&link->in, link->source.fd, LINK_IN_MAX);
    if (n > 0) {
        return true;
    }
    link->readable = false;
    if (n != -EAGAIN && link->one_host) {
        link->ended = true;
    }
    return false;
}

bool link_turn(struct link *link)
{
    bool more = link->source.fd >= 0;

    for (int i = 0; more && !link->ended && i < LINK_ROUNDS; i++) {
        struct link_piece piece;

        more = read_some(link);
        link_process(link);
        fill(link, &piece);
        more |= write_some(link);
        more |= write_piece(link, &piece);
    }
    return more;
}
