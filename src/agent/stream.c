#include "agent/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

/* Pipes that nobody wants any more --------------------------------------------------------------
 * Level-triggered and a piece at a time: a background process may write for ever. */

#define DRAIN_PIECE 16384

struct drain {
    struct source source;
    struct stream_env *env;
    struct drain *next;
    struct drain **link; /* what points to this one */
};

static void drain_free(struct drain *d)
{
    poller_close(d->env->poller, &d->source);
    *d->link = d->next;
    if (d->next) {
        d->next->link = d->link;
    }
    d->env->drain_count--;
    free(d);
}

/* Reads a piece; false at the end. */
static bool drain_some(int fd)
{
    uint8_t piece[DRAIN_PIECE];
    ssize_t n = read(fd, piece, sizeof(piece));

    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void on_drain(struct source *source, uint32_t events)
{
    (void)events;
    if (!drain_some(source->fd)) {
        drain_free(source->owner);
    }
}

/* Takes fd. Mostly, nobody holds the other end any more. */
static void drain_pipe(struct stream_env *env, int fd)
{
    bool open = drain_some(fd);
    struct drain *d = open && env->drain_count < STREAM_DRAINS_MAX ? malloc(sizeof(*d)) : NULL;

    if (!d) {
        (void)close(fd);
        return;
    }
    *d = (struct drain){
        .source = {.fd = -1, .handle = on_drain, .owner = d},
        .env = env,
        .next = env->drains,
        .link = &env->drains,
    };
    if (d->next) {
        d->next->link = &d->next;
    }
    env->drains = d;
    env->drain_count++;
    if (poller_add(env->poller, &d->source, fd, EPOLLIN) < 0) {
        drain_free(d);
    }
}

void stream_env_init(struct stream_env *env, struct poller *poller)
{
    *env = (struct stream_env){.poller = poller};
}

void stream_env_done(struct stream_env *env)
{
    while (env->drains) {
        drain_free(env->drains);
    }
}

/* Guest to host ------------------------------------------------------------------------------- */

/* The end, as far as we are concerned. */
static void channel_leave(struct channel *c)
{
    int fd = poller_steal(c->env->poller, &c->source);

    c->eof = true;
    if (fd >= 0 && c->terminal) {
        (void)close(fd);
    } else if (fd >= 0) {
        drain_pipe(c->env, fd);
    }
}

static void channel_pump(struct channel *c)
{
    while (c->source.fd >= 0) {
        bool empty = false;
        ssize_t n;

        if (c->finishing && c->last == 0) {
            channel_leave(c);
            break;
        }
        n = ring_read_fd(&c->ring, c->source.fd, c->finishing ? c->last : RING_MAX, &empty);
        if (n > 0) {
            c->last -= c->finishing ? (size_t)n : 0;
            if (empty && !c->terminal && !c->finishing && !c->hung_up) {
                break; /* a pipe gives all that it has, and whatever comes is a new edge */
            }
        } else if (n == -ENOBUFS) {
            break;
        } else if (n == -EAGAIN || (n == -EIO && c->terminal)) {
            /* EIO: nobody has the terminal open just now, but somebody may open it again. */
            if (c->finishing) {
                channel_leave(c);
            }
            break;
        } else {
            poller_close(c->env->poller, &c->source);
            c->eof = true;
        }
    }
    c->owner->wake(c->owner);
}

static void on_channel(struct source *source, uint32_t events)
{
    struct channel *c = source->owner;

    /* Told once, perhaps together with the last bytes. */
    c->hung_up = c->hung_up || (!c->terminal && (events & EPOLLHUP));
    channel_pump(c);
}

void channel_init(struct channel *c, struct stream_env *env, struct stream_owner *owner)
{
    *c = (struct channel){
        .source = {.fd = -1, .handle = on_channel, .owner = c},
        .env = env,
        .owner = owner,
        .eof = true,
    };
    ring_init(&c->ring, &env->pool);
}

void channel_open(struct channel *c, int fd, bool terminal)
{
    c->terminal = terminal;
    c->eof = fd < 0 || poller_add(c->env->poller, &c->source, fd, EPOLLIN | EPOLLET) < 0;
}

void channel_done(struct channel *c)
{
    channel_leave(c);
    ring_done(&c->ring);
}

void channel_abandon(struct channel *c)
{
    channel_done(c);
}

void channel_finish(struct channel *c)
{
    int bytes = 0;

    if (c->source.fd < 0) {
        return;
    }
    c->finishing = true;
    if (c->terminal) {
        c->last = STREAM_HANGUP_MAX;
    } else if (ioctl(c->source.fd, FIONREAD, &bytes) == 0 && bytes > 0) {
        c->last = (size_t)bytes;
    }
    channel_pump(c);
}

void channel_window(struct channel *c, uint64_t acked, uint64_t limit)
{
    if (acked > c->ring.end || limit < acked || limit - acked > FRAME_WINDOW_MAX) {
        return;
    }
    if (acked > c->ring.start) {
        ring_drop(&c->ring, acked);
    }
    if (c->sent < acked) {
        c->sent = acked;
    }
    if (c->limit < limit) {
        c->limit = limit;
    }
    if (c->eof && c->ring.start == c->ring.end) {
        ring_done(&c->ring);
    }
    channel_pump(c);
}

void channel_rewind(struct channel *c)
{
    c->sent = c->ring.start;
    c->limit = 0;
    c->end_sent = false;
}

/* Whole frames that lie one behind the other, of the bytes before `end`. */
static bool channel_lend(struct channel *c, struct frame f, uint64_t end, struct link_piece *piece)
{
    f.length = FRAME_PAYLOAD_MAX;
    while (piece->len + FRAME_MAX <= LINK_PIECE_MAX && end - c->sent >= f.length) {
        uint8_t *place = ring_frame(&c->ring, c->sent);

        if (!place || (piece->len > 0 && place != piece->data + piece->len)) {
            break;
        }
        piece->data = piece->len > 0 ? piece->data : place;
        piece->len += FRAME_MAX;
        f.offset = c->sent;
        frame_seal(place, &f);
        c->sent += f.length;
    }
    return piece->len > 0;
}

bool channel_put(struct channel *c, uint32_t id, uint8_t number, struct buf *out,
                 struct link_piece *piece)
{
    uint64_t end = c->limit < c->ring.end ? c->limit : c->ring.end;
    struct frame f = {.type = FRAME_DATA, .channel = number, .stream = id, .offset = c->sent};

    if (c->sent < end) {
        size_t n;

        if (piece && channel_lend(c, f, end, piece)) {
            return true;
        }
        n = ring_peek(&c->ring, c->sent, &f.payload);
        n = n < end - c->sent ? n : (size_t)(end - c->sent);
        f.length = (uint32_t)(n < FRAME_PAYLOAD_MAX ? n : FRAME_PAYLOAD_MAX);
        if (frame_put(out, &f) < 0) {
            return false;
        }
        c->sent += f.length;
        return true;
    }
    if (c->eof && !c->end_sent && c->sent == c->ring.end) {
        f.type = FRAME_END;
        c->end_sent = frame_put(out, &f) == 0;
        return c->end_sent;
    }
    return false;
}

/* Host to guest ------------------------------------------------------------------------------- */

static void input_discard(struct input *in)
{
    if (in->buf.len > 0) {
        buf_consume(&in->buf, in->buf.len);
    }
}

static uint64_t input_consumed(const struct input *in)
{
    return in->received - in->buf.len;
}

static size_t input_window(const struct input *in)
{
    return in->env->promised - in->promised < STREAM_INPUT_POOL_MAX ? STREAM_INPUT_MAX
                                                                    : STREAM_INPUT_SMALL;
}

static void input_promise(struct input *in, size_t bytes)
{
    in->env->promised += bytes - in->promised;
    in->promised = bytes;
}

/* Has the command read all that was typed? What is typed too early loses its meaning when a program
 * turns canonical mode off. poll also waits for bytes on their way to the other side. */
static bool terminal_is_read(int master)
{
    struct pollfd p = {.fd = master};
    _cleanup_close_ int slave = -1;

    /* When nobody has it open, our close would be the last: an event, and so on for ever. */
    if (poll(&p, 1, 0) > 0) {
        return false;
    }
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    p = (struct pollfd){.fd = slave, .events = POLLIN};
    return slave >= 0 && poll(&p, 1, 0) == 0;
}

/* The next event on the master comes when the command has read something. */
static void input_type_eof(struct input *in)
{
    int fd = in->source.fd;
    struct termios modes;
    size_t count = 0;
    cc_t keys[2];

    if (in->eofs == 0 || !terminal_is_read(fd) || tcgetattr(fd, &modes) < 0) {
        return;
    }
    if (modes.c_lflag & ICANON) {
        /* In the middle of a line the first one ends the line. */
        if (in->mid_line) {
            keys[count++] = modes.c_cc[VEOF];
        }
    } else if (in->eofs < STREAM_EOFS) {
        /* The one before came too early and was read as NUL, which is now in the shell's line. */
        keys[count++] = modes.c_cc[VKILL];
    }
    keys[count++] = modes.c_cc[VEOF];
    if (modes.c_cc[VEOF] != _POSIX_VDISABLE && write(fd, keys, count) > 0) {
        in->mid_line = false;
        in->eofs--;
    }
}

static void input_pump(struct input *in)
{
    size_t window = input_window(in);

    while (in->source.fd >= 0 && in->buf.len > 0) {
        ssize_t n = write(in->source.fd, buf_head(&in->buf), in->buf.len);

        if (n >= 0) {
            buf_consume(&in->buf, (size_t)n);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            /* The command reads no more. Whoever sends need not know: a shell's pipe is the same,
             * up to the writer's next write. */
            input_discard(in);
            if (!in->terminal) {
                poller_close(in->env->poller, &in->source);
            }
        }
    }
    if (in->source.fd < 0) {
        input_discard(in);
    } else if (in->buf.len == 0 && in->ended && in->terminal) {
        input_type_eof(in);
    } else if (in->buf.len == 0 && in->ended) {
        poller_close(in->env->poller, &in->source);
    }
    if (in->enabled && input_consumed(in) + window >= in->granted + window / 2) {
        in->window_due = true;
        in->owner->wake(in->owner);
    }
}

static void on_input(struct source *source, uint32_t events)
{
    struct input *in = source->owner;

    if ((events & EPOLLERR) && !in->terminal) {
        poller_close(in->env->poller, &in->source);
    }
    input_pump(in);
}

void input_init(struct input *in, struct stream_env *env, struct stream_owner *owner)
{
    *in = (struct input){
        .source = {.fd = -1, .handle = on_input, .owner = in},
        .env = env,
        .owner = owner,
    };
    buf_init(&in->buf, STREAM_INPUT_MAX);
}

void input_open(struct input *in, int fd, bool terminal)
{
    in->terminal = terminal;
    if (fd >= 0) {
        /* Without a watch the input is closed: what comes is thrown away. */
        (void)!poller_add(in->env->poller, &in->source, fd, EPOLLOUT | EPOLLET);
    }
}

void input_close(struct input *in)
{
    poller_close(in->env->poller, &in->source);
    input_pump(in);
}

void input_done(struct input *in)
{
    input_promise(in, 0);
    poller_close(in->env->poller, &in->source);
    buf_done(&in->buf);
}

void input_data(struct input *in, uint64_t offset, const uint8_t *data, size_t len)
{
    uint64_t skip;

    if (!in->enabled || (in->ended && !in->terminal) || offset > in->received) {
        return;
    }
    skip = in->received - offset;
    if (skip >= len) {
        return;
    }
    data += skip;
    len -= (size_t)skip;
    /* The grant never exceeds the room. */
    if (len > in->granted - in->received || buf_append(&in->buf, data, len) < 0) {
        return;
    }
    in->received += len;
    in->ended = false; /* somebody else goes on typing */
    in->mid_line = data[len - 1] != '\n' && data[len - 1] != '\r';
    input_pump(in);
}

void input_end(struct input *in, uint64_t offset)
{
    if (in->enabled && offset == in->received) {
        in->ended = true;
        in->eofs = STREAM_EOFS;
        input_pump(in);
    }
}

void input_tell(struct input *in)
{
    in->window_due = in->enabled;
}

bool input_put(struct input *in, uint32_t id, struct buf *out)
{
    uint64_t consumed = input_consumed(in);
    uint64_t limit = consumed + input_window(in);

    if (!in->window_due) {
        return false;
    }
    if (limit < in->granted) {
        limit = in->granted; /* a promise is kept */
    }
    if (frame_put_window(out, id, FRAME_STDIN, in->received, limit) < 0) {
        return false;
    }
    in->granted = limit;
    input_promise(in, (size_t)(limit - consumed));
    in->window_due = false;
    return true;
}
