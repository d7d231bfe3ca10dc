#include "cli/remote.h"

#include "base/str.h"
#include "cli/output.h"
#include "cli/session.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define QUEUE_HIGH ((size_t)128 * 1024) /* our bytes are framed while less than this waits */
#define QUEUE_MAX (2 * QUEUE_HIGH)
#define ERRORS_WINDOW (64 * 1024)
#define ERRORS_ACK_EVERY (16 * 1024)
#define MESSAGE_MAX ((size_t)256 * 1024)
#define GUEST_SIGHUP 1

/* Failures --------------------------------------------------------------------------------------*/

void messages_init(struct messages *m)
{
    *m = (struct messages){0};
    buf_init(&m->text, MESSAGE_MAX + ERRORS_WINDOW);
}

int messages_take(struct messages *m, const void *data, size_t len)
{
    return buf_append(&m->text, data, len) < 0 ? -1 : 0;
}

/* The next string, without which there is no message. */
static const char *take_string(const char **at, const char *end)
{
    const char *s = *at;
    const char *nul = memchr(s, 0, (size_t)(end - s));

    if (!nul) {
        return NULL;
    }
    *at = nul + 1;
    return s;
}

void messages_print(struct messages *m, const struct cli *cli, const char *vm)
{
    while (m->text.len > 0) {
        const char *start = (const char *)buf_head(&m->text);
        const char *at = start, *end = start + m->text.len;
        const char *path = take_string(&at, end);
        const char *why = path ? take_string(&at, end) : NULL;
        const char *hint = why ? take_string(&at, end) : NULL;
        _cleanup_free_ char *what = NULL;
        struct err err;

        if (!hint) {
            return;
        }
        what = x_asprintf("%s%s%s", vm ? vm : "", vm ? ":" : "", path);
        err_set(&err, ERR_IO, "%s", why);
        if (hint[0]) {
            err_hint(&err, "%s", hint);
        }
        (void)out_error(cli, NULL, what, &err);
        m->any = true;
        buf_consume(&m->text, (size_t)(at - start));
    }
}

/* The connection --------------------------------------------------------------------------------*/

static int broke_protocol(struct err *err, const char *what)
{
    return err_set(err, ERR_IO, "the daemon broke the protocol: %s", what);
}

/* The queue has room for what may be in it: data up to QUEUE_HIGH, and small frames, of which there
 * are no more than bytes received allow. */
static void must_fit(int r)
{
    assert(r == 0);
    (void)r;
}

static bool has_room(const struct remote *r)
{
    return buf_room(&r->out) >= FRAME_MAX;
}

static void put_window(struct remote *r, uint8_t channel, uint64_t acked, uint64_t limit)
{
    must_fit(frame_put_window(&r->out, 0, channel, acked, limit));
}

int remote_open(struct remote *r, struct cli *cli, const char *vm, const char *method,
                json_t *params, int signals_fd, int *ret_signal, struct err *err)
{
    _cleanup_json_ json_t *session = NULL;
    struct session_wake wake = {.signals_fd = signals_fd};
    struct client_watch watch = {.wake_fd = signals_fd, .wake = session_wake, .arg = &wake};
    int n;

    *r = (struct remote){.vm = vm, .puts = str_eq(method, "file.put"), .fd = -1};
    messages_init(&r->messages);
    json_put_str(params, "vm", vm);
    if (cli_connect(cli, true, &r->client, err) < 0) {
        json_decref(params);
        return -1;
    }
    n = client_call_watched(r->client, method, params, &watch, &session, err);
    *ret_signal = wake.signal;
    if (n < 0) {
        return -1;
    }
    r->fd = client_take_over(r->client, &r->in);
    buf_init(&r->out, QUEUE_MAX);
    put_window(r, FRAME_STDERR, 0, ERRORS_WINDOW);
    if (r->puts) {
        put_window(r, FRAME_STDOUT, 0, FRAME_ACK_EVERY); /* there is none */
    }
    return 0;
}

void remote_close(struct remote *r)
{
    close_p(&r->fd);
    client_free(r->client);
    r->client = NULL;
    buf_done(&r->in);
    buf_done(&r->out);
    buf_done(&r->messages.text);
}

/* To the guest ----------------------------------------------------------------------------------*/

size_t remote_room(const struct remote *r)
{
    uint64_t room = r->stdin_known && !r->stdin_ended && !r->exited ? r->limit - r->sent : 0;

    return r->out.len < QUEUE_HIGH ? (size_t)(room < QUEUE_HIGH ? room : QUEUE_HIGH) : 0;
}

void remote_send(struct remote *r, struct buf *data, bool end)
{
    while (data->len > 0 && remote_room(r) > 0) {
        size_t n = remote_room(r);
        struct frame f = {.type = FRAME_DATA,
                          .channel = FRAME_STDIN,
                          .offset = r->sent,
                          .payload = buf_head(data)};

        n = n < data->len ? n : data->len;
        f.length = (uint32_t)(n < FRAME_PAYLOAD_MAX ? n : FRAME_PAYLOAD_MAX);
        must_fit(frame_put(&r->out, &f));
        r->sent += f.length;
        buf_consume(data, f.length);
    }
    if (end && data->len == 0 && r->stdin_known && !r->stdin_ended && !r->exited) {
        must_fit(frame_put(
            &r->out,
            &(struct frame){.type = FRAME_END, .channel = FRAME_STDIN, .offset = r->sent}));
        r->stdin_ended = true;
    }
}

bool remote_owes(const struct remote *r)
{
    return !r->exited && r->received >= r->acked + FRAME_ACK_EVERY;
}

void remote_grant(struct remote *r, const struct buf *data, bool quiet)
{
    uint64_t worth = quiet ? FRAME_ACK_EVERY : FRAME_ACK_BULK;
    uint64_t limit =
        r->received + (REMOTE_WINDOW - (data->len < REMOTE_WINDOW ? data->len : REMOTE_WINDOW));

    if (r->exited || !has_room(r) ||
        (limit < r->granted + worth && r->received < r->acked + worth)) {
        return;
    }
    r->granted = limit > r->granted ? limit : r->granted;
    r->acked = r->received;
    put_window(r, FRAME_STDOUT, r->acked, r->granted);
}

void remote_stop(struct remote *r)
{
    if (r->fd >= 0 && !r->exited && has_room(r)) {
        must_fit(frame_put_u32(&r->out, FRAME_SIGNAL, 0, GUEST_SIGHUP));
    }
}

/* From the guest --------------------------------------------------------------------------------*/

static int take_data(struct remote *r, const struct frame *f, struct buf *data, struct err *err)
{
    if (f->channel == FRAME_STDERR && f->offset == r->err_received) {
        r->err_received += f->length;
        if (messages_take(&r->messages, f->payload, f->length) < 0) {
            return err_set(err, ERR_GUEST, "the guest does not speak the language of errors");
        }
        if (r->err_received - r->err_acked >= ERRORS_ACK_EVERY && has_room(r)) {
            r->err_acked = r->err_received;
            put_window(r, FRAME_STDERR, r->err_acked, r->err_acked + ERRORS_WINDOW);
        }
        return 0;
    }
    if (f->channel != FRAME_STDOUT || f->offset != r->received || r->ended) {
        return broke_protocol(err, "data out of order");
    }
    r->received += f->length;
    if (r->puts) {
        return err_set(err, ERR_GUEST, "the guest sends what nobody asked for");
    }
    return buf_append(data, f->payload, f->length) < 0
               ? broke_protocol(err, "more data than was asked for")
               : 0;
}

static int take_window(struct remote *r, const struct frame *f, struct err *err)
{
    struct frame_reader reader = frame_reader(f);
    uint64_t limit;

    if (f->channel != FRAME_STDIN || frame_take_u64(&reader, &limit) < 0 || limit < f->offset ||
        (r->stdin_known && f->offset > r->sent)) {
        return broke_protocol(err, "a bad window");
    }
    if (!r->stdin_known) {
        r->stdin_known = true;
        r->sent = f->offset;
    }
    r->limit = limit > r->limit ? limit : r->limit;
    return 0;
}

static int take_exited(struct remote *r, const struct frame *f, struct err *err)
{
    struct frame_reader reader = frame_reader(f);
    uint32_t value;
    uint8_t killed;

    if (frame_take_u8(&reader, &killed) < 0 || frame_take_u32(&reader, &value) < 0 || killed > 1 ||
        value > 255) {
        return broke_protocol(err, "a bad exit status");
    }
    r->exited = true;
    r->ended = true;
    r->status = killed ? 1 : (int)value;
    r->signal = killed ? (int)value : 0;
    return 0;
}

static int take_frame(struct remote *r, const struct frame *f, struct buf *data, struct err *err)
{
    switch (f->stream == 0 ? f->type : 0) {
    case FRAME_STARTED:
        return 0;
    case FRAME_DATA:
        return take_data(r, f, data, err);
    case FRAME_END:
        if (f->channel == FRAME_STDOUT && f->offset != r->received) {
            return broke_protocol(err, "an end out of order");
        }
        r->ended = r->ended || f->channel == FRAME_STDOUT;
        r->err_ended = r->err_ended || f->channel == FRAME_STDERR;
        return 0;
    case FRAME_WINDOW:
        return take_window(r, f, err);
    case FRAME_EXITED:
        return take_exited(r, f, err);
    case FRAME_FATAL: /* the daemon's word; the guest's failures are in its reply */
    case FRAME_FAILED:
        return err_set(err, ERR_IO, "%.*s", (int)f->length,
                       f->length ? (const char *)f->payload : "");
    default:
        return broke_protocol(err, "a frame of unknown type");
    }
}

static int take_frames(struct remote *r, struct buf *data, struct err *err)
{
    while (!r->exited) {
        struct frame f;
        int size = frame_parse(buf_head(&r->in), r->in.len, &f);

        if (size < 0) {
            return broke_protocol(err, "what it sent is no frame");
        }
        if (size == 0) {
            return 0;
        }
        if (take_frame(r, &f, data, err) < 0) {
            return -1;
        }
        buf_consume(&r->in, (size_t)size);
    }
    return 0;
}

short remote_events(const struct remote *r)
{
    return (short)(POLLIN | (r->out.len > 0 ? POLLOUT : 0));
}

int remote_serve(struct remote *r, short events, struct buf *data, struct err *err)
{
    ssize_t n;

    if (events & POLLOUT) {
        n = buf_write_fd(&r->out, r->fd);
        /* A daemon that has closed may have said why: what it sent is read first. */
        if (n < 0 && n != -EAGAIN) {
            buf_consume(&r->out, r->out.len);
        }
    }
    /* What came with the reply is there without an event. */
    if (take_frames(r, data, err) < 0 || r->exited) {
        return r->exited ? 0 : -1;
    }
    if (!(events & (POLLIN | POLLHUP | POLLERR))) {
        return 0;
    }
    n = buf_read_fd(&r->in, r->fd, 65536);
    if (n == -EAGAIN) {
        return 0;
    }
    if (n <= 0) {
        return n == 0 || n == -ECONNRESET || n == -EPIPE
                   ? err_set(err, ERR_IO, "the daemon closed the connection")
                   : err_set_errno(err, ERR_IO, (int)n, "lost the connection to the daemon");
    }
    return take_frames(r, data, err);
}
