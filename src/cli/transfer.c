#include "cli/transfer.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/thread.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define DATA_MAX (REMOTE_WINDOW + 65536) /* between source and sink */
#define DATA_HIGH REMOTE_WINDOW
#define PIPE_BYTES (256 * 1024) /* wanted for pipes to our own thread */
#define PIECE 4096              /* what poll promises that somebody's pipe takes */
#define STACK_KIB 1024
#define STOP_MS 10000 /* for guests to undo what they began */
#define PROGRESS_AFTER_MS 500
#define PROGRESS_EVERY_MS 200

/* The thread with the local files: it gets this, and gives it back when it is joined. */
struct worker {
    pthread_t thread;
    bool runs;
    struct archive_pack pack;
    struct archive_unpack unpack;
    bool packs;
    int stream_fd; /* its end of the stream; closed when it is done */
    int report_fd; /* its end of the failures; as well */
    int result;    /* of archive_pack or archive_unpack */
};

struct transfer {
    const struct transfer_params *params;
    struct worker worker;
    struct buf data;
    int source_fd, sink_fd; /* -1: a remote, or done */
    int report_fd;          /* -1: no worker, or it is done */
    bool own_sink;          /* a pipe of ours: never blocks, and is closed at the end */
    bool sink_takes_all;    /* a file: neither does that */
    bool source_ended;
    bool quiet;    /* nothing has come for a moment */
    bool stopping; /* something went wrong; the rest is thrown away */
    int64_t stop_ms;
    int failed;
    int signal;
    struct messages messages; /* the worker's */

    uint64_t bytes;
    int64_t began_ms, shown_ms;
    bool line_dirty;
};

/* Progress --------------------------------------------------------------------------------------*/

static void clear_line(struct transfer *t)
{
    if (t->line_dirty) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
        t->line_dirty = false;
    }
}

static void show_progress(struct transfer *t)
{
    const struct cli *cli = t->params->cli;
    int64_t now = clock_mono_ms(), ms = now - t->began_ms;
    _cleanup_free_ char *bytes = NULL, *rate = NULL, *text = NULL;
    struct winsize size = {0};
    int width = 79;

    if (cli->quiet || !cli->stderr_live || ms < PROGRESS_AFTER_MS ||
        now - t->shown_ms < PROGRESS_EVERY_MS) {
        return;
    }
    t->shown_ms = now;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
        width = size.ws_col - 1;
    }
    bytes = out_size((long long)t->bytes);
    rate = out_size((long long)(t->bytes * 1000 / (uint64_t)ms));
    text = x_asprintf("banger: copied %s, %s/s", bytes, rate);
    (void)fprintf(stderr, "\r\033[K%.*s", width, text);
    (void)fflush(stderr);
    t->line_dirty = true;
}

/* Failures --------------------------------------------------------------------------------------*/

static void stop(struct transfer *t)
{
    if (t->stopping) {
        return;
    }
    t->stopping = true;
    t->stop_ms = clock_mono_ms();
    buf_consume(&t->data, t->data.len);
    if (t->params->from) {
        remote_stop(t->params->from);
    }
    if (t->params->to) {
        remote_stop(t->params->to);
    }
    /* The worker sees its stream end, or nobody read it. */
    if (t->params->pack) {
        close_p(&t->source_fd);
    }
    if (t->own_sink) {
        close_p(&t->sink_fd);
    }
    t->source_ended = true;
}

static void fail(struct transfer *t, const char *what, const struct err *err)
{
    if (!t->stopping) {
        clear_line(t);
        (void)out_error(t->params->cli, NULL, what, err);
    }
    t->failed = 1;
    stop(t);
}

static void print_messages(struct transfer *t, struct messages *m, const char *vm)
{
    if (m->text.len == 0) {
        return;
    }
    clear_line(t);
    if (t->stopping) {
        buf_consume(&m->text, m->text.len); /* it only tells that it was stopped */
    } else {
        messages_print(m, t->params->cli, vm);
    }
}

/* The worker ------------------------------------------------------------------------------------*/

static void report(void *arg, const char *path, const char *why, const char *hint)
{
    const struct worker *w = arg;
    const char *const parts[] = {path, why, hint};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const char *s = parts[i];
        size_t len = strlen(s) + 1;

        while (len > 0) {
            ssize_t n = write(w->report_fd, s, len);

            if (n < 0 && errno != EINTR) {
                return; /* a second signal has ended us */
            }
            s += n > 0 ? n : 0;
            len -= n > 0 ? (size_t)n : 0;
        }
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;

    w->result = w->packs ? archive_pack(&w->pack) : archive_unpack(&w->unpack);
    close_p(&w->stream_fd);
    close_p(&w->report_fd);
    return NULL;
}

/* Our end does not block, the worker's does. */
static int make_pipe(int ours, int *ret_ours, int *ret_theirs)
{
    int fds[2], flags;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    (void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES); /* else it is smaller, and slower */
    flags = fcntl(fds[ours], F_GETFL);
    if (flags < 0 || fcntl(fds[ours], F_SETFL, flags | O_NONBLOCK) < 0) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return -errno;
    }
    *ret_ours = fds[ours];
    *ret_theirs = fds[!ours];
    return 0;
}

static int start_worker(struct transfer *t)
{
    const struct transfer_params *params = t->params;
    struct worker *w = &t->worker;
    int r;

    w->packs = params->pack != NULL;
    r = make_pipe(w->packs ? 0 : 1, w->packs ? &t->source_fd : &t->sink_fd, &w->stream_fd);
    if (r == 0) {
        r = make_pipe(0, &t->report_fd, &w->report_fd);
    }
    if (r < 0) {
        return r;
    }
    if (w->packs) {
        w->pack = *params->pack;
        w->pack.out_fd = w->stream_fd;
        w->pack.report = report;
        w->pack.arg = w;
    } else {
        w->unpack = *params->unpack;
        w->unpack.in_fd = w->stream_fd;
        w->unpack.report = report;
        w->unpack.arg = w;
        t->own_sink = true;
    }
    r = thread_start(&w->thread, w->packs ? "pack" : "unpack", STACK_KIB, work, w);
    w->runs = r == 0;
    return r;
}

static void serve_report(struct transfer *t)
{
    ssize_t n = buf_read_fd(&t->messages.text, t->report_fd, 65536);

    if (n == -EAGAIN) {
        return;
    }
    print_messages(t, &t->messages, NULL);
    if (n > 0) {
        return;
    }
    close_p(&t->report_fd);
    (void)pthread_join(t->worker.thread, NULL);
    t->worker.runs = false;
    if (t->worker.result > 0) {
        t->failed = 1;
    } else if (t->worker.result < 0 && !t->stopping) {
        struct err err;

        err_set_errno(&err, ERR_INTERNAL, t->worker.result, "cannot pack");
        fail(t, NULL, &err);
    }
    if (!t->worker.packs && (t->sink_fd >= 0 || !t->source_ended)) {
        t->failed = 1;
        stop(t); /* it has given up, and said why */
    }
}

/* Bytes -----------------------------------------------------------------------------------------*/

static void read_source(struct transfer *t)
{
    ssize_t n = buf_read_fd(&t->data, t->source_fd, 65536);
    struct err err;

    if (n == -EAGAIN || n == -ENOBUFS) {
        return;
    }
    if (n < 0) {
        err_set_errno(&err, ERR_IO, (int)n, "cannot read standard input");
        fail(t, NULL, &err);
    } else if (n == 0) {
        t->source_ended = true;
        if (t->params->pack) {
            close_p(&t->source_fd);
        }
        t->source_fd = -1;
    } else {
        t->bytes += (uint64_t)n;
    }
}

static void write_sink(struct transfer *t)
{
    size_t len = t->data.len;
    struct err err;
    ssize_t n;

    if (len > PIECE && !t->own_sink && !t->sink_takes_all) {
        len = PIECE;
    }
    n = write(t->sink_fd, buf_head(&t->data), len);
    if (n >= 0) {
        buf_consume(&t->data, (size_t)n);
    } else if (errno != EAGAIN && errno != EINTR) {
        if (t->own_sink) {
            t->failed = 1; /* the worker has given up, and says why */
            close_p(&t->sink_fd);
            buf_consume(&t->data, t->data.len);
        } else {
            err_set_errno(&err, ERR_IO, errno, "cannot write to standard output");
            fail(t, NULL, &err);
        }
    }
}

static void serve_remote(struct transfer *t, struct remote *r, short events)
{
    uint64_t before = r->received;
    struct err err;
    int n = remote_serve(r, events, &t->data, &err);

    print_messages(t, &r->messages, r->vm);
    if (n < 0) {
        r->exited = true;
        fail(t, r->vm, &err);
        return;
    }
    if (!r->puts) {
        t->bytes += r->received - before;
        t->source_ended = t->source_ended || r->ended;
    }
    if (!r->exited) {
        return;
    }
    if (r->signal && !t->stopping) {
        err_set(&err, ERR_GUEST, "copying was killed by signal %d in the guest", r->signal);
        fail(t, r->vm, &err);
    } else if (r->status != 0) {
        t->failed = 1;
    }
    if (r->puts && !r->stdin_ended) {
        t->failed = 1;
        stop(t); /* it has given up, and said why */
    }
}

static void serve_signal(struct transfer *t)
{
    int number = signals_read(t->params->signals_fd);

    if (number == 0) {
        return;
    }
    if (t->signal) {
        t->stop_ms = INT64_MIN; /* the second one: do not wait */
    }
    t->signal = number;
    stop(t);
}

/* All of it -------------------------------------------------------------------------------------*/

static bool is_live(const struct remote *r)
{
    return r && !r->exited;
}

static bool is_done(const struct transfer *t)
{
    if (t->stopping && (t->stop_ms == INT64_MIN || clock_mono_ms() - t->stop_ms >= STOP_MS)) {
        return true;
    }
    return t->source_ended && t->data.len == 0 && t->report_fd < 0 && !is_live(t->params->from) &&
           !is_live(t->params->to);
}

/* What can be done without waiting. */
static void move_on(struct transfer *t)
{
    const struct transfer_params *params = t->params;

    if (t->stopping) {
        buf_consume(&t->data, t->data.len);
    }
    if (is_live(params->to)) {
        remote_send(params->to, &t->data, t->source_ended);
    }
    if (is_live(params->from)) {
        remote_grant(params->from, &t->data, t->quiet);
    }
    if (t->own_sink && t->source_ended && t->data.len == 0) {
        close_p(&t->sink_fd);
    }
}

static int timeout_of(const struct transfer *t)
{
    const struct cli *cli = t->params->cli;

    if (t->stopping) {
        int64_t left = t->stop_ms + STOP_MS - clock_mono_ms();

        return left > 0 ? (int)left : 0;
    }
    if (is_live(t->params->from) && remote_owes(t->params->from)) {
        return FRAME_ACK_QUIET_MS;
    }
    return cli->quiet || !cli->stderr_live ? -1 : PROGRESS_EVERY_MS;
}

static void step(struct transfer *t)
{
    enum { SIGNALS, SOURCE, SINK, FROM, TO, REPORT, COUNT };
    const struct transfer_params *params = t->params;
    bool reads = t->source_fd >= 0 && !t->source_ended && t->data.len < DATA_HIGH;
    bool writes = t->sink_fd >= 0 && t->data.len > 0;
    struct pollfd p[COUNT] = {
        [SIGNALS] = {params->signals_fd, POLLIN, 0},
        [SOURCE] = {reads ? t->source_fd : -1, POLLIN, 0},
        [SINK] = {writes ? t->sink_fd : -1, POLLOUT, 0},
        [FROM] = {is_live(params->from) ? params->from->fd : -1, 0, 0},
        [TO] = {is_live(params->to) ? params->to->fd : -1, 0, 0},
        [REPORT] = {t->report_fd, POLLIN, 0},
    };
    int n;

    for (int i = FROM; i <= TO; i++) {
        p[i].events = p[i].fd >= 0 ? remote_events(i == FROM ? params->from : params->to) : 0;
    }
    n = poll(p, COUNT, timeout_of(t));
    t->quiet = n == 0;
    if (n < 0) {
        return; /* EINTR */
    }
    if (p[SIGNALS].revents) {
        serve_signal(t);
    }
    if (p[FROM].revents) {
        serve_remote(t, params->from, p[FROM].revents);
    }
    if (p[SOURCE].revents && t->source_fd >= 0) {
        read_source(t);
    }
    if (p[TO].revents) {
        serve_remote(t, params->to, p[TO].revents);
    }
    if (p[SINK].revents && t->sink_fd >= 0) {
        write_sink(t);
    }
    if (p[REPORT].revents) {
        serve_report(t);
    }
    show_progress(t);
}

/* Frames that came with a reply do not make the socket readable. */
static void serve_early(struct transfer *t)
{
    if (t->params->from) {
        serve_remote(t, t->params->from, 0);
    }
    if (t->params->to) {
        serve_remote(t, t->params->to, 0);
    }
}

static void init(struct transfer *t, const struct transfer_params *params)
{
    struct stat st;

    *t = (struct transfer){
        .params = params,
        .worker = {.stream_fd = -1, .report_fd = -1},
        .source_fd = params->from_stdin ? STDIN_FILENO : -1,
        .sink_fd = params->to_stdout ? STDOUT_FILENO : -1,
        .report_fd = -1,
        .began_ms = clock_mono_ms(),
    };
    t->sink_takes_all = params->to_stdout && fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
    buf_init(&t->data, DATA_MAX);
    messages_init(&t->messages);
}

static void done(struct transfer *t)
{
    clear_line(t);
    if (t->params->pack) {
        close_p(&t->source_fd);
    }
    if (t->own_sink) {
        close_p(&t->sink_fd);
    }
    close_p(&t->report_fd);
    if (t->worker.runs) {
        /* It is stuck in a file of ours, and the user does not want to wait. */
        (void)fflush(NULL);
        _exit(t->signal ? 128 + t->signal : EXIT_FAILED);
    }
    close_p(&t->worker.stream_fd);
    close_p(&t->worker.report_fd);
    buf_done(&t->data);
    buf_done(&t->messages.text);
}

int transfer_run(const struct transfer_params *params)
{
    struct transfer t;
    struct err err;
    int r = 0;

    init(&t, params);
    if (params->pack || params->unpack) {
        r = start_worker(&t);
    }
    if (r < 0) {
        err_set_errno(&err, ERR_INTERNAL, r, "cannot start copying");
        fail(&t, NULL, &err);
    }
    serve_early(&t);
    for (move_on(&t); !is_done(&t); move_on(&t)) {
        step(&t);
    }
    if (t.stopping && !t.signal && t.stop_ms != INT64_MIN &&
        clock_mono_ms() - t.stop_ms >= STOP_MS) {
        t.failed = 1;
    }
    done(&t);
    return t.signal ? 128 + t.signal : t.failed;
}
