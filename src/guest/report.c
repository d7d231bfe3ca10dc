#include "guest/report.h"

#include "base/str.h"
#include "guest/guest_priv.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define WINDOW (256 * 1024)

static json_t *make_command_spec(const char *command)
{
    json_t *spec = json_object();

    json_put(spec, "command", json_pack("[s]", command));
    json_put_str(spec, "stdin", "closed");
    return spec;
}

static json_t *make_spec(enum frame_files what)
{
    static const char *const names[] = {[FRAME_FILES_STATS] = "stats",
                                        [FRAME_FILES_PROCESSES] = "processes",
                                        [FRAME_FILES_LISTENERS] = "listeners"};
    json_t *spec = json_object(), *files = json_object();

    json_put(spec, "command", json_pack("[ss]", "banger-agent", names[what]));
    json_put_int(files, "direction", what);
    json_put_int(files, "flags", 0);
    json_put(files, "paths", json_array());
    json_put(spec, "files", files);
    json_put_str(spec, "stdin", "closed");
    json_put_str(spec, "user", "root");
    return spec;
}

/* The client of the session that we are. */
struct reading {
    const struct guest_report *params;
    struct buf *text;
    struct buf in, out;
    int fd;
    uint64_t at[FRAME_CHANNELS], told[FRAME_CHANNELS]; /* read, and acknowledged */
    bool exited;
};

static void reading_done(struct reading *r)
{
    buf_done(&r->in);
    buf_done(&r->out);
    close_p(&r->fd); /* ends the session */
}

static int grant(struct reading *r, uint8_t channel)
{
    r->told[channel] = r->at[channel];
    return frame_put_window(&r->out, 0, channel, r->at[channel], r->at[channel] + WINDOW);
}

/* 0, or -EPROTO, -ENOBUFS: too much of it, -ESRCH: it failed. */
static int take_frame(struct reading *r, const struct frame *f)
{
    switch (f->type) {
    case FRAME_DATA:
        if (f->channel != FRAME_STDOUT && f->channel != FRAME_STDERR) {
            return -EPROTO;
        }
        r->at[f->channel] += f->length;
        if (f->channel == FRAME_STDOUT && buf_append(r->text, f->payload, f->length) < 0) {
            return -ENOBUFS;
        }
        return r->at[f->channel] - r->told[f->channel] >= WINDOW / 4 ? grant(r, f->channel) : 0;
    case FRAME_EXITED: {
        int code, signal;

        r->exited = true;
        return session_take_how(f, 0, &code, &signal) < 0 ? -EPROTO : code == 0 ? 0 : -ESRCH;
    }
    case FRAME_FAILED:
    case FRAME_FATAL:
        return -ESRCH;
    default:
        return 0;
    }
}

static int take_frames(struct reading *r)
{
    struct frame f;
    int n;

    while ((n = frame_parse(buf_head(&r->in), r->in.len, &f)) > 0) {
        int taken = take_frame(r, &f);

        if (taken < 0) {
            return taken;
        }
        buf_consume(&r->in, (size_t)n);
    }
    return n;
}

/* One wait. */
static int turn(struct reading *r)
{
    ssize_t n = 0;
    int waited;

    while (r->out.len > 0 && n != -EAGAIN) {
        n = buf_write_fd(&r->out, r->fd);
        /* Over already: its last words are still to be read. */
        if (n == -EPIPE || n == -ECONNRESET) {
            buf_consume(&r->out, r->out.len);
        } else if (n < 0 && n != -EAGAIN) {
            return (int)n;
        }
    }
    waited =
        cancel_wait_fd(r->params->cancel, r->fd, (short)(POLLIN | (r->out.len > 0 ? POLLOUT : 0)),
                       r->params->deadline_ms);
    if (waited < 0) {
        return waited;
    }
    n = buf_read_fd(&r->in, r->fd, FRAME_MAX);
    return n == 0 ? -ESRCH : n < 0 && n != -EAGAIN ? (int)n : take_frames(r);
}

static int fail(int n, struct err *err)
{
    switch (n) {
    case -ETIMEDOUT:
        return err_set(err, ERR_TIMEOUT, "the guest did not answer in time");
    case -ECANCELED:
        return err_set(err, ERR_CANCELLED, "cancelled");
    case -ENOBUFS:
        return err_set(err, ERR_GUEST, "the guest's answer has no end");
    default:
        return err_set(err, ERR_GUEST, "the guest gave no answer");
    }
}

static int read_all(const struct guest_report *params, const char *session, struct buf *text,
                    struct err *err)
{
    _cleanup_(reading_done) struct reading r = {.params = params, .text = text, .fd = -1};
    int fds[2], n;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
        session_abandon(params->sessions, params->vm_id, session);
        return err_set_errno(err, ERR_LIMIT, errno, "cannot ask the guest");
    }
    r.fd = fds[0];
    buf_init(&r.in, 2 * FRAME_MAX);
    buf_init(&r.out, FRAME_MAX);
    if (session_attach(params->sessions, params->vm_id, session, fds[1], NULL, 0, err) < 0) {
        return -1;
    }
    n = grant(&r, FRAME_STDOUT);
    n = n < 0 ? n : grant(&r, FRAME_STDERR);
    while (n >= 0 && !r.exited) {
        n = turn(&r);
    }
    return n < 0 ? fail(n, err) : 0;
}

int guest_report_read(const struct guest_report *params, struct buf *text, struct err *err)
{
    _cleanup_json_ json_t *spec =
        params->command ? make_command_spec(params->command) : make_spec(params->what);
    _cleanup_json_ json_t *session = NULL;
    const struct session_start_params start = {.link = params->link,
                                               .vm_id = params->vm_id,
                                               .spec = spec,
                                               .cancel = params->cancel,
                                               .deadline_ms = params->deadline_ms};
    char id[ID_SIZE];

    if (session_start(params->sessions, &start, id, err) < 0 ||
        session_show(params->sessions, params->vm_id, id, &session, err) < 0) {
        return -1;
    }
    if (str_eq(json_str(session, "state", ""), "failed")) {
        const char *why = json_str(session, "error", "the guest gave no answer");
        bool old = str_eq(why, SESSION_NO_FILES);

        err_set(err, old ? ERR_UNSUPPORTED : ERR_GUEST, "%s", why);
        session_abandon(params->sessions, params->vm_id, id);
        return -1;
    }
    return read_all(params, id, text, err);
}
