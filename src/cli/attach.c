#include "cli/attach.h"

#include "base/str.h"
#include "cli/signals.h"
#include "codec/frame.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define WINDOW (320 * 1024)   /* what an agent holds at most */
#define QUEUE_MAX (64 * 1024) /* stdin is read while less than this waits for the socket */
#define SMALL_FRAMES 4096
#define PIECE 4096 /* what poll promises that a pipe takes without waiting */
#define STATUS_BANGER 125

struct output {
    int fd;
    int own_fd; /* fd, when we opened it, or -1 */
    bool is_socket;
    bool is_file;
    bool waits;      /* cannot be told not to wait */
    bool broken;     /* nobody reads it any more: drop */
    bool ended;      /* END came */
    struct buf data; /* received, not written */
    uint64_t received;
    uint64_t written;
    uint64_t acked; /* as the daemon knows it */
};

struct attach {
    int fd;
    int own_fd; /* fd, when we have reconnected, or -1 */
    int signals_fd;
    int terminal_fd; /* signals that concern the terminal, or -1 */
    struct terminal *terminal;
    struct buf in;                         /* from the daemon */
    struct buf out;                        /* to the daemon */
    struct output outputs[FRAME_CHANNELS]; /* [0] is not used */
    struct buf
        kept; /* from stdin: what the guest may not have yet, and a new daemon may want again */
    uint64_t kept_from;  /* offset of its first byte */
    bool stdin_open;     /* there is more to read */
    bool stdin_at_end;   /* its end was read, */
    bool stdin_end_sent; /* and sent */
    bool stdin_known;    /* the daemon said where to go on */
    uint64_t stdin_sent, stdin_limit;
    bool lost;                   /* the connection ended */
    bool ended;                  /* EXITED or FAILED came: the socket is not read any more */
    sigset_t forwarded;          /* signals that the command has had */
    struct attach_result result; /* left: the loop ends */
    int write_error;
};

static int broke_protocol(struct err *err, const char *what)
{
    return err_set(err, ERR_IO, "the daemon broke the protocol: %s", what);
}

/* To the daemon ---------------------------------------------------------------------------------*/

/* The queue has room for all that may be in it: a bounded piece of stdin and small frames. */
static void must_fit(int r)
{
    assert(r == 0);
    (void)r;
}

static void send_signal(struct attach *a, int number)
{
    /* A daemon that takes nothing more has no use for another signal either. */
    if (buf_room(&a->out) >= SMALL_FRAMES) {
        must_fit(frame_put_u32(&a->out, FRAME_SIGNAL, 0, (uint32_t)number));
    }
}

static void send_size(struct attach *a)
{
    struct terminal_size size;

    if (terminal_size(&size) && buf_room(&a->out) >= SMALL_FRAMES) {
        must_fit(frame_put_u32(&a->out, FRAME_RESIZE, 0, size.rows | (uint32_t)size.columns << 16));
    }
}

/* We end before the command. */
static void leave(struct attach *a, int number)
{
    a->result.left = true;
    a->result.status = 128 + number;
}

/* The terminal that the command's was is gone. */
static void hang_up(struct attach *a)
{
    send_signal(a, SIGHUP);
    leave(a, SIGHUP);
}

static void send_window(struct attach *a, uint8_t channel)
{
    struct output *o = &a->outputs[channel];

    /* Only a daemon that does not read lets the queue grow: it is told later, or never. */
    if (buf_room(&a->out) < SMALL_FRAMES) {
        return;
    }
    o->acked = o->written;
    must_fit(frame_put_window(&a->out, 0, channel, o->acked, o->acked + WINDOW));
}

static void maybe_ack(struct attach *a, uint8_t channel)
{
    const struct output *o = &a->outputs[channel];
    bool done = o->ended && o->data.len == 0 && o->acked != o->written;

    if (!a->ended && (o->written - o->acked >= FRAME_ACK_BULK || done)) {
        send_window(a, channel);
    }
}

/* An agent that is short of memory may hold no more than this, and waits. */
static bool owes_ack(const struct attach *a, uint8_t channel)
{
    const struct output *o = &a->outputs[channel];

    return !a->ended && o->written - o->acked >= FRAME_ACK_EVERY;
}

static void ack_quiet(struct attach *a)
{
    for (unsigned channel = FRAME_STDOUT; channel < FRAME_CHANNELS; channel++) {
        if (owes_ack(a, (uint8_t)channel)) {
            send_window(a, (uint8_t)channel);
        }
    }
}

/* Offset behind what was read from stdin. */
static uint64_t stdin_read(const struct attach *a)
{
    return a->kept_from + a->kept.len;
}

static bool wants_stdin(const struct attach *a)
{
    return a->stdin_open && a->stdin_known && !a->ended && stdin_read(a) < a->stdin_limit &&
           a->out.len < QUEUE_MAX && buf_room(&a->kept) > 0;
}

static void read_stdin(struct attach *a)
{
    uint64_t room = a->stdin_limit - stdin_read(a);
    size_t most = buf_room(&a->kept) < FRAME_PAYLOAD_MAX ? buf_room(&a->kept) : FRAME_PAYLOAD_MAX;
    ssize_t n = buf_read_fd(&a->kept, STDIN_FILENO, room < most ? (size_t)room : most);

    if (n == -EINTR || n == -EAGAIN) {
        return;
    }
    if (n <= 0 && a->terminal) {
        hang_up(a);
    } else if (n <= 0) {
        /* An unreadable stdin (a terminal that went away) has ended as well. */
        a->stdin_open = false;
        a->stdin_at_end = true;
    }
}

/* What was read goes out as far as the window and the queue allow. */
static void send_stdin(struct attach *a)
{
    struct frame f = {.type = FRAME_DATA, .channel = FRAME_STDIN};

    if (!a->stdin_known || a->ended) {
        return;
    }
    while (a->stdin_sent < stdin_read(a) && a->stdin_sent < a->stdin_limit &&
           a->out.len < QUEUE_MAX) {
        uint64_t most = stdin_read(a) < a->stdin_limit ? stdin_read(a) : a->stdin_limit;

        most -= a->stdin_sent;
        f.offset = a->stdin_sent;
        f.payload = buf_head(&a->kept) + (a->stdin_sent - a->kept_from);
        f.length = most < FRAME_PAYLOAD_MAX ? (uint32_t)most : FRAME_PAYLOAD_MAX;
        must_fit(frame_put(&a->out, &f));
        a->stdin_sent += f.length;
    }
    if (a->stdin_at_end && !a->stdin_end_sent && a->stdin_sent == stdin_read(a)) {
        a->stdin_end_sent = true;
        must_fit(frame_put(
            &a->out,
            &(struct frame){.type = FRAME_END, .channel = FRAME_STDIN, .offset = a->stdin_sent}));
    }
}

/* From the daemon -------------------------------------------------------------------------------*/

static int take_data(struct attach *a, const struct frame *f, struct err *err)
{
    struct output *o = &a->outputs[f->channel];

    if (f->channel == FRAME_STDIN || f->offset != o->received || o->ended) {
        return broke_protocol(err, "data out of order");
    }
    o->received += f->length;
    if (o->broken) {
        o->written += f->length;
        maybe_ack(a, f->channel);
        return 0;
    }
    return buf_append(&o->data, f->payload, f->length) < 0
               ? broke_protocol(err, "more data than was asked for")
               : 0;
}

static int take_end(struct attach *a, const struct frame *f, struct err *err)
{
    struct output *o = &a->outputs[f->channel];

    if (f->channel == FRAME_STDIN || f->offset != o->received || o->ended) {
        return broke_protocol(err, "an end out of order");
    }
    o->ended = true;
    maybe_ack(a, f->channel);
    return 0;
}

/* The first window on a connection says where stdin goes on: after a break, somewhere in what we
 * kept. */
static int begin_stdin(struct attach *a, uint64_t offset, uint64_t limit, struct err *err)
{
    if (stdin_read(a) == 0 && a->stdin_open) {
        a->kept_from = offset;
    } else if ((offset < a->kept_from || offset > stdin_read(a)) &&
               (a->stdin_open || a->stdin_at_end)) {
        return broke_protocol(err, "it goes on elsewhere in stdin");
    }
    a->stdin_known = true;
    a->stdin_sent = offset;
    a->stdin_limit = limit;
    return 0;
}

static int take_window(struct attach *a, const struct frame *f, struct err *err)
{
    struct frame_reader r = frame_reader(f);
    uint64_t limit;

    if (f->channel != FRAME_STDIN || frame_take_u64(&r, &limit) < 0 || limit < f->offset) {
        return broke_protocol(err, "a bad window");
    }
    if (!a->stdin_known) {
        return begin_stdin(a, f->offset, limit, err);
    }
    if (f->offset > a->stdin_sent) {
        return broke_protocol(err, "it has more than was sent");
    }
    if (f->offset > a->kept_from) {
        buf_consume(&a->kept, (size_t)(f->offset - a->kept_from));
        a->kept_from = f->offset;
    }
    a->stdin_limit = limit > a->stdin_limit ? limit : a->stdin_limit;
    return 0;
}

/* Of a session that ended before we came there may be no output any more, nor its end. */
static bool is_cut_off(const struct output *o)
{
    return o->received > 0 && !o->ended;
}

static int take_exited(struct attach *a, const struct frame *f, struct err *err)
{
    struct frame_reader r = frame_reader(f);
    uint32_t value;
    uint8_t killed;

    if (frame_take_u8(&r, &killed) < 0 || frame_take_u32(&r, &value) < 0 || killed > 1 ||
        value > (killed ? 127 : 255)) {
        return broke_protocol(err, "a bad exit status");
    }
    if (is_cut_off(&a->outputs[FRAME_STDOUT]) || is_cut_off(&a->outputs[FRAME_STDERR])) {
        return broke_protocol(err, "an exit before the end of the output");
    }
    a->ended = true;
    a->result.status = (int)value + (killed ? 128 : 0);
    return 0;
}

/* The error is set, and the status as well. */
int attach_hint_failed(struct err *err, int status)
{
    /* The texts are the agent's. */
    if (status == 127) {
        return err_hint(err,
                        "the image must have it; a program outside of PATH is named by its path");
    }
    if (status == 126) {
        return err_hint(err, "it must be an executable file; a script can be given to its "
                             "interpreter: sh FILE");
    }
    if (strstr(err->message, "knows no such")) {
        return err_hint(err,
                        "users and groups are the image's; numbers work without an entry, such "
                        "as --user 1000:1000");
    }
    if (str_starts_with(err->message, "working directory")) {
        return err_hint(err, "it must exist in the guest: make it first, or use another --workdir");
    }
    return -1;
}

static int take_failed(struct attach *a, const struct frame *f, struct err *err)
{
    struct frame_reader r = frame_reader(f);
    uint32_t status, number;

    if (frame_take_u32(&r, &status) < 0 || frame_take_u32(&r, &number) < 0) {
        return broke_protocol(err, "a bad failure");
    }
    a->result.status = status == 126 || status == 127 ? (int)status : STATUS_BANGER;
    err_set(err, ERR_GUEST, "%.*s", (int)r.left, r.left ? (const char *)r.p : "");
    return attach_hint_failed(err, (int)status);
}

/* The daemon gave up on this connection, or on the session: its word is the error. */
static int take_fatal(const struct frame *f, struct err *err)
{
    return err_set(err, ERR_IO, "the connection to the command ended: %.*s", (int)f->length,
                   f->length ? (const char *)f->payload : "");
}

static int take_frame(struct attach *a, const struct frame *f, struct err *err)
{
    if (f->stream != 0) {
        return broke_protocol(err, "a frame of another session");
    }
    switch (f->type) {
    case FRAME_STARTED:
        return 0;
    case FRAME_DATA:
        return take_data(a, f, err);
    case FRAME_END:
        return take_end(a, f, err);
    case FRAME_WINDOW:
        return take_window(a, f, err);
    case FRAME_EXITED:
        return take_exited(a, f, err);
    case FRAME_FAILED:
        return take_failed(a, f, err);
    case FRAME_FATAL:
        return take_fatal(f, err);
    default:
        return broke_protocol(err, "a frame of unknown type");
    }
}

static int take_frames(struct attach *a, struct err *err)
{
    while (!a->ended) {
        struct frame f;
        int size = frame_parse(buf_head(&a->in), a->in.len, &f);

        if (size < 0) {
            return broke_protocol(err, "what it sent is no frame");
        }
        if (size == 0) {
            return 0;
        }
        if (take_frame(a, &f, err) < 0) {
            return -1;
        }
        buf_consume(&a->in, (size_t)size);
    }
    return 0;
}

static int lost(struct err *err, ssize_t r)
{
    if (r == 0 || r == -ECONNRESET || r == -EPIPE) {
        err_set(err, ERR_IO, "the daemon closed the connection before the command ended");
        return err_hint(err, "did it end? see: banger daemon status");
    }
    return err_set_errno(err, ERR_IO, (int)r, "lost the connection to the daemon");
}

static int serve_socket(struct attach *a, short events, struct err *err)
{
    ssize_t n = 1;

    if (events & POLLOUT) {
        n = buf_write_fd(&a->out, a->fd);
        /* A daemon that has closed may have said why: what it sent is read first. */
        if (n < 0 && n != -EAGAIN) {
            buf_consume(&a->out, a->out.len);
        }
    }
    if (events & (POLLIN | POLLHUP | POLLERR)) {
        n = buf_read_fd(&a->in, a->fd, 65536);
        if (n == -EAGAIN) {
            return 0;
        }
        a->lost = n <= 0;
        return n <= 0 ? lost(err, n) : take_frames(a, err);
    }
    return 0;
}

/* Our side --------------------------------------------------------------------------------------*/

/* Nobody reads this output any more: a local command would get SIGPIPE now. */
static void break_output(struct attach *a, uint8_t channel, int error)
{
    struct output *o = &a->outputs[channel];

    o->broken = true;
    o->written += o->data.len;
    buf_consume(&o->data, o->data.len);
    if (error != EPIPE && error != ECONNRESET && a->write_error == 0) {
        a->write_error = error;
    }
    if (error == EIO && a->terminal && !a->ended) {
        hang_up(a);
    } else if (!a->ended) {
        send_signal(a, SIGPIPE);
    }
}

/* Writes what there is room for, and does not wait. The descriptor is shared with others, so it
 * stays as it is; pipes can be told for one call (since Linux 6.4), the rest is written in pieces
 * for which poll has promised the room. */
static ssize_t write_some(struct output *o)
{
    struct iovec all = {.iov_base = (void *)buf_head(&o->data), .iov_len = o->data.len};
    size_t piece = o->is_file || all.iov_len < PIECE ? all.iov_len : PIECE;

    if (o->is_socket) {
        return send(o->fd, all.iov_base, all.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (!o->is_file && !o->waits) {
        ssize_t n = pwritev2(o->fd, &all, 1, -1, RWF_NOWAIT);

        if (n >= 0 || errno != EOPNOTSUPP) {
            return n;
        }
        o->waits = true;
    }
    return write(o->fd, all.iov_base, piece);
}

static void write_output(struct attach *a, uint8_t channel)
{
    struct output *o = &a->outputs[channel];
    struct pollfd now = {.fd = o->fd, .events = POLLOUT};
    ssize_t n;

    /* The other output may have filled the pipe that both are. */
    if (poll(&now, 1, 0) < 1) {
        return;
    }
    n = write_some(o);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n < 0) {
        break_output(a, channel, errno);
    } else {
        buf_consume(&o->data, (size_t)n);
        o->written += (uint64_t)n;
    }
    maybe_ack(a, channel);
}

static void serve_signal(struct attach *a)
{
    int number = signals_read(a->signals_fd);

    if (number == 0) {
        return;
    }
    /* Once the command has ended there is only output left, which nobody may want to read. */
    if (a->ended) {
        leave(a, number);
        return;
    }
    if ((number == SIGINT || number == SIGTERM) && sigismember(&a->forwarded, number)) {
        a->result.killed = true;
        send_signal(a, SIGKILL);
        leave(a, number);
        return;
    }
    (void)sigaddset(&a->forwarded, number);
    send_signal(a, number);
    if (number == SIGHUP && a->terminal && terminal_is_gone(a->terminal)) {
        leave(a, number);
    }
}

static void serve_terminal(struct attach *a)
{
    int number = signals_read(a->terminal_fd);

    if (number == SIGTSTP && a->terminal) {
        terminal_stop(a->terminal);
    } else if (number == SIGCONT && a->terminal) {
        terminal_resume(a->terminal);
    }
    if (number != 0 && !a->ended) {
        send_size(a);
    }
}

static bool is_done(const struct attach *a)
{
    return a->result.left || (a->ended && a->outputs[FRAME_STDOUT].data.len == 0 &&
                              a->outputs[FRAME_STDERR].data.len == 0);
}

/* After the connection ended: goes on with the next daemon, from where we are. -1 keeps the error.
 */
static int resume(struct attach *a, const struct attach_params *params, struct err *err)
{
    struct err why;
    struct buf rest;
    int fd, r;

    r = params->reconnect ? params->reconnect(params->reconnect_arg, &fd, &rest, &why) : -1;
    if (r != 0) {
        if (r > 0) {
            leave(a, r);
        }
        if (r < 0 && params->reconnect) {
            err_append(err, "; %s", why.message);
        }
        return r > 0 ? 0 : -1;
    }
    a->lost = false;
    close_p(&a->own_fd);
    a->fd = a->own_fd = fd;
    buf_done(&a->in);
    a->in = rest;
    buf_consume(&a->out, a->out.len);
    a->stdin_known = a->stdin_end_sent = false;
    for (unsigned channel = FRAME_STDOUT; channel < FRAME_CHANNELS; channel++) {
        struct output *o = &a->outputs[channel];

        o->ended = false; /* is told again */
        o->acked = o->written;
        must_fit(frame_put_window(&a->out, 0, (uint8_t)channel, o->received, o->written + WINDOW));
        if (o->broken) {
            send_signal(a, SIGPIPE); /* maybe once more */
        }
    }
    if (params->tty) {
        send_size(a);
    }
    return take_frames(a, err);
}

static int step(struct attach *a, struct err *err)
{
    enum { SOCKET, SIGNALS, TERMINAL, STDIN, STDOUT, STDERR, COUNT };
    /* poll reports an error on whatever it is given: what cannot be served is left out. */
    struct pollfd p[COUNT] = {
        [SOCKET] = {a->ended ? -1 : a->fd, POLLIN, 0},
        [SIGNALS] = {a->signals_fd, POLLIN, 0},
        [TERMINAL] = {a->terminal_fd, POLLIN, 0},
        [STDIN] = {wants_stdin(a) ? STDIN_FILENO : -1, POLLIN, 0},
        [STDOUT] = {a->outputs[FRAME_STDOUT].data.len ? a->outputs[FRAME_STDOUT].fd : -1, POLLOUT,
                    0},
        [STDERR] = {a->outputs[FRAME_STDERR].data.len ? a->outputs[FRAME_STDERR].fd : -1, POLLOUT,
                    0},
    };
    bool owes;
    int n;

    send_stdin(a);
    if (a->out.len > 0) {
        p[SOCKET].events |= POLLOUT;
    }
    owes = owes_ack(a, FRAME_STDOUT) || owes_ack(a, FRAME_STDERR);
    n = poll(p, COUNT, owes ? FRAME_ACK_QUIET_MS : -1);
    if (n < 0) {
        return errno == EINTR ? 0 : err_set_errno(err, ERR_INTERNAL, errno, "poll failed");
    }
    if (n == 0) {
        ack_quiet(a);
    }
    if (p[SIGNALS].revents) {
        serve_signal(a);
    }
    if (p[TERMINAL].revents) {
        serve_terminal(a);
    }
    if (p[STDOUT].revents) {
        write_output(a, FRAME_STDOUT);
    }
    if (p[STDERR].revents) {
        write_output(a, FRAME_STDERR);
    }
    if (p[STDIN].revents) {
        read_stdin(a);
    }
    return p[SOCKET].revents ? serve_socket(a, p[SOCKET].revents, err) : 0;
}

static void init(struct attach *a, const struct attach_params *params)
{
    *a = (struct attach){
        .fd = params->fd,
        .own_fd = -1,
        .signals_fd = params->signals_fd,
        .terminal_fd = params->tty ? signals_open_terminal(params->terminal) : -1,
        .terminal = params->terminal,
        .stdin_open = params->stdin_open,
        .in = *params->rest,
        .result.status = STATUS_BANGER,
    };
    (void)sigemptyset(&a->forwarded);
    buf_init(params->rest, 0);
    /* Besides stdin's pieces: windows, at most one for each FRAME_ACK_EVERY received, and signals.
     */
    buf_init(&a->out, 4 * QUEUE_MAX);
    buf_init(&a->kept, FRAME_WINDOW_MAX);
    for (unsigned channel = FRAME_STDOUT; channel < FRAME_CHANNELS; channel++) {
        struct output *o = &a->outputs[channel];
        struct stat st;

        o->fd = channel == FRAME_STDOUT ? STDOUT_FILENO : STDERR_FILENO;
        o->own_fd = terminal_reopen(o->fd);
        o->fd = o->own_fd >= 0 ? o->own_fd : o->fd;
        if (fstat(o->fd, &st) == 0) {
            o->is_socket = S_ISSOCK(st.st_mode);
            o->is_file = S_ISREG(st.st_mode);
        }
        buf_init(&o->data, WINDOW);
        send_window(a, (uint8_t)channel);
    }
    if (params->tty) {
        send_size(a); /* it may have changed since the session began */
    }
}

static void done(struct attach *a)
{
    /* Best effort: the daemon may forget what it held for us. */
    (void)!buf_write_fd(&a->out, a->fd);
    buf_done(&a->in);
    buf_done(&a->out);
    buf_done(&a->kept);
    close_p(&a->own_fd);
    buf_done(&a->outputs[FRAME_STDOUT].data);
    buf_done(&a->outputs[FRAME_STDERR].data);
    close_p(&a->outputs[FRAME_STDOUT].own_fd);
    close_p(&a->outputs[FRAME_STDERR].own_fd);
    close_p(&a->terminal_fd);
}

int attach_run(const struct attach_params *params, struct attach_result *ret, struct err *err)
{
    struct attach a;
    struct err second;
    int r;

    init(&a, params);
    r = take_frames(&a, err);
    /* After a failure what came before it is still written. */
    a.ended |= r < 0;
    while (!is_done(&a)) {
        if (step(&a, r < 0 ? &second : err) < 0) {
            if (r < 0) {
                break;
            }
            if (a.lost && resume(&a, params, err) == 0) {
                continue;
            }
            r = -1;
            a.ended = true;
        }
    }
    if (r == 0 && !a.result.left && a.write_error) {
        a.result.status = STATUS_BANGER;
        r = err_set_errno(err, ERR_IO, a.write_error, "cannot write the command's output");
    }
    done(&a);
    *ret = a.result;
    return r;
}
