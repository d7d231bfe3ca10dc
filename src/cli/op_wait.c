#include "cli/op_wait.h"

#include "base/clock.h"
#include "base/str.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "codec/rpc.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define TICK_MS 100 /* how often a terminal's line is written again */
#define STAGE_MAX 64
#define NOTE_MAX 512

struct progress {
    struct cli *cli;
    struct client *client;
    struct op_wait *wait;
    bool shown;      /* not --quiet */
    bool rewrites;   /* a terminal that can move its cursor */
    bool line_dirty; /* an unfinished line stands on the terminal */
    bool timed_out;
    int64_t deadline_ms; /* -1 = none */
    int64_t stage_ms;    /* when the stage began */
    char stage[STAGE_MAX];
    char note[NOTE_MAX];
    long long bytes, total;
};

static void clear_line(struct progress *p)
{
    if (p->line_dirty) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
        p->line_dirty = false;
    }
}

static void write_line(struct progress *p)
{
    _cleanup_free_ char *bytes = p->bytes > 0 ? out_size(p->bytes) : NULL;
    _cleanup_free_ char *total = p->total > 0 ? out_size(p->total) : NULL;
    _cleanup_free_ char *text = NULL;
    struct winsize size = {0};
    int width = 79;

    if (!p->shown || !p->rewrites || !p->stage[0]) {
        return;
    }
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
        width = size.ws_col - 1;
    }
    text = x_asprintf("banger: %s%s%s%s%s %.1f s", p->stage, bytes ? " " : "", bytes ? bytes : "",
                      total ? " of " : "", total ? total : "",
                      (double)(clock_mono_ms() - p->stage_ms) / 1000);
    /* One write: what else goes to the terminal does not get into the middle of it. */
    (void)fprintf(stderr, "\r\033[K%.*s", width, text);
    (void)fflush(stderr);
    p->line_dirty = true;
}

/* Copies text of the daemon's, safe to print. True when it differs from what was there. */
static bool take_text(char *field, size_t size, const char *text)
{
    _cleanup_free_ char *safe = str_escape(text ? text : "", text ? strlen(text) : 0, size / 4);
    bool differs = !str_eq(field, safe);

    (void)snprintf(field, size, "%s", safe);
    return differs;
}

static void take_operation(struct progress *p, const json_t *op)
{
    const json_t *stages = json_object_get(op, "stages");
    const json_t *last =
        json_array_size(stages) ? json_array_get(stages, json_array_size(stages) - 1) : NULL;

    p->bytes = json_int(last, "bytes", 0);
    p->total = json_int(last, "total", 0);
    if (take_text(p->stage, sizeof(p->stage), json_str(op, "stage", ""))) {
        p->stage_ms = clock_mono_ms();
        if (p->shown && !p->rewrites && p->stage[0]) {
            (void)fprintf(stderr, "banger: %s...\n", p->stage);
        }
    }
    if (take_text(p->note, sizeof(p->note), json_str(op, "message", "")) && p->note[0] &&
        p->shown) {
        clear_line(p);
        (void)fprintf(stderr, "banger: %s\n", p->note);
    }
    write_line(p);
}

static void on_notify(void *arg, const char *method, const json_t *params)
{
    struct progress *p = arg;
    const json_t *inner = json_object_get(params, "op");
    const json_t *op = json_is_object(inner) ? inner : params;

    if (str_eq(method, "op.progress") && str_eq(json_str(op, "id", NULL), p->wait->op)) {
        take_operation(p, op);
    }
}

static void cancel_operation(struct progress *p)
{
    json_t *params = json_object();
    struct err ignored;

    /* When this fails so does the wait, which reports it. */
    json_put_str(params, "op", p->wait->op);
    (void)client_send(p->client, "op.cancel", params, &ignored);
}

static int on_wake(void *arg)
{
    struct progress *p = arg;
    int signal = signals_read(p->wait->signals_fd);

    if (signal == 0) {
        return 0;
    }
    if (p->wait->signal) {
        return -1;
    }
    p->wait->signal = signal;
    clear_line(p);
    if (p->shown) {
        (void)fputs("banger: cancelling; once more leaves at once\n", stderr);
    }
    cancel_operation(p);
    return 0;
}

static int on_tick(void *arg)
{
    struct progress *p = arg;
    int next = p->shown && p->rewrites ? TICK_MS : -1;

    write_line(p);
    if (p->deadline_ms >= 0 && !p->timed_out) {
        int64_t left = p->deadline_ms - clock_mono_ms();

        if (left > 0) {
            return next >= 0 && next < left ? next : (int)left;
        }
        p->timed_out = true;
        cancel_operation(p);
    }
    return next;
}

static int read_result(struct progress *p, const json_t *op, json_t **ret_result, struct err *err)
{
    const char *state = json_str(op, "state", "");
    const json_t *error = json_object_get(op, "error");

    err->code = ERR_NONE;
    if (str_eq(state, "done")) {
        *ret_result = json_incref(json_object_get(op, "result"));
        return *ret_result ? 0 : err_set(err, ERR_IO, "the daemon sent no result");
    }
    if (p->timed_out && !p->wait->signal) {
        err_set(err, ERR_TIMEOUT, "not done within %.1f s", (double)p->wait->timeout_ms / 1000);
        return err_hint(err, "--timeout allows more");
    }
    if (json_is_object(error)) {
        rpc_error_read(error, err);
    }
    /* Where it was when it was told to end is of no interest. */
    if (str_eq(state, "cancelled") || (p->wait->signal && err->code == ERR_CANCELLED)) {
        return err_set(err, ERR_CANCELLED, "cancelled");
    }
    if (json_is_object(error)) {
        return -1;
    }
    return err_set(err, ERR_IO, "the daemon sent no end of operation %s", p->wait->op);
}

int op_wait(struct cli *cli, struct client *c, const json_t *op, struct op_wait *w,
            json_t **ret_result, struct err *err)
{
    const char *id = json_str(op, "id", "");
    _cleanup_json_ json_t *ended = NULL;
    struct progress p = {
        .cli = cli,
        .client = c,
        .wait = w,
        .shown = !cli->quiet,
        .rewrites = cli->stderr_live,
        .deadline_ms = w->timeout_ms > 0 ? clock_mono_ms() + w->timeout_ms : -1,
    };
    struct client_watch watch = {
        .notify = on_notify,
        .wake_fd = w->signals_fd,
        .wake = on_wake,
        .tick = on_tick,
        .arg = &p,
    };
    json_t *params;
    int r;

    if (!id[0] || strlen(id) >= sizeof(w->op)) {
        return err_set(err, ERR_IO, "the daemon sent no operation");
    }
    (void)snprintf(w->op, sizeof(w->op), "%s", id);
    take_operation(&p, op);
    params = json_object();
    json_put_str(params, "op", id);
    if (!p.shown) {
        json_put_bool(params, "progress", false);
    }
    r = client_call_watched(c, "op.watch", params, &watch, &ended, err);
    clear_line(&p);
    return r < 0 ? -1 : read_result(&p, ended, ret_result, err);
}

json_t *op_run(struct cli *cli, const char *method, json_t *params, int *ret_status)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *owned = params;
    _cleanup_json_ json_t *op = NULL;
    _cleanup_close_ int signals_fd = -1;
    struct op_wait w = {0};
    json_t *result = NULL;
    struct err err;

    *ret_status = EXIT_FAILED;
    if (cli_connect(cli, true, &c, &err) < 0) {
        (void)out_error(cli, NULL, NULL, &err);
        return NULL;
    }
    signals_fd = signals_open();
    w.signals_fd = signals_fd;
    if (client_call(c, method, STEAL_PTR(owned), &op, &err) < 0 ||
        op_wait(cli, c, op, &w, &result, &err) < 0) {
        (void)out_error(cli, c, NULL, &err);
        if (cli->debug && w.op[0]) {
            (void)fprintf(stderr, "debug: operation %s\n", w.op);
        }
        *ret_status = w.signal ? 128 + w.signal : EXIT_FAILED;
        return NULL;
    }
    *ret_status = 0;
    return result;
}
