#include "base/str.h"
#include "cli/cli.h"
#include "cli/each.h"
#include "cli/output.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DOING "read the log of"

struct following {
    struct cli *cli;
    json_t *params; /* of each call */
    struct out_text text;
    long long position;
};

/* The source that was asked for; more than one is an error. */
static int put_source(const struct cli_args *args, json_t *params, struct err *err)
{
    static const char *const sources[] = {"console", "vmm", "agent"};
    unsigned count = cli_arg(args, "source") != NULL;

    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        if (cli_arg(args, sources[i])) {
            json_put_str(params, "source", sources[i]);
            count++;
        }
    }
    return count > 1 ? err_set(err, ERR_INVALID, "one log at a time: --console, --vmm or --agent")
                     : 0;
}

static void say_skipped(const struct following *f, const json_t *page)
{
    long long skipped = json_int(page, "skipped", 0);

    if (skipped > 0 && !f->cli->quiet) {
        (void)fprintf(stderr, "banger: %lld bytes skipped\n", skipped);
    }
}

static int print_page(struct following *f, const json_t *page, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len;

    say_skipped(f, page);
    f->position = json_int(page, "position", -1);
    if (f->cli->format != FORMAT_TABLE) {
        out_json(f->cli, page);
    } else if (json_bytes_get(json_object_get(page, "text"), &text, &len) < 0) {
        return err_set(err, ERR_IO, "the daemon sent no text");
    } else {
        out_text(&f->text, text, len);
    }
    (void)fflush(stdout);
    return ferror(stdout) ? err_set(err, ERR_IO, "cannot write to standard output") : 0;
}

/* Whoever read our output is gone: as when we had written to it. */
static int on_reader_gone(void *arg)
{
    (void)arg;
    (void)raise(SIGPIPE);
    return -1; /* SIGPIPE is ignored */
}

static bool stdout_is_pipe(void)
{
    struct stat st;

    return fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode);
}

/* 1: the log goes on; 0: the VM is gone; -1. */
static int next_page(struct following *f, struct client *c, struct err *err)
{
    const struct client_watch watch = {.wake_fd = stdout_is_pipe() ? STDOUT_FILENO : -1,
                                       .wake = on_reader_gone};
    _cleanup_json_ json_t *page = NULL;
    json_t *params = json_copy(f->params);

    json_put_int(params, "after", f->position);
    json_put_bool(params, "wait", true);
    if (client_call_watched(c, "vm.logs", params, &watch, &page, err) < 0) {
        /* We cancel nothing: it does so when it ends. */
        if (err->code == ERR_CANCELLED) {
            err_set(err, ERR_IO, "the daemon ended");
        }
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    }
    return print_page(f, page, err) < 0 ? -1 : 1;
}

/* The VM by its id from now on: it may get another name, and another VM its. */
static int settle(struct following *f, struct client *c, struct err *err)
{
    _cleanup_json_ json_t *vm = NULL, *params = json_object();

    json_put(params, "vm", json_incref(json_object_get(f->params, "vm")));
    if (client_call(c, "vm.show", STEAL_PTR(params), &vm, err) < 0) {
        return -1;
    }
    json_put_str(f->params, "vm", json_str(vm, "id", ""));
    return 0;
}

/* Nothing is caught: SIGINT and SIGPIPE end us as they end tail -f. */
static int read_log(struct following *f, bool on, struct err *err)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *first = NULL;
    int r = on;

    if (cli_connect(f->cli, true, &c, err) < 0 || (on && settle(f, c, err) < 0) ||
        client_call(c, "vm.logs", json_copy(f->params), &first, err) < 0 ||
        print_page(f, first, err) < 0) {
        return -1;
    }
    while (r > 0) {
        r = next_page(f, c, err);
    }
    return r;
}

int cmd_vm_logs(struct cli *cli, const struct cli_args *args)
{
    const char *ref = args->operands[0];
    _cleanup_json_ json_t *params = json_object();
    struct following f = {.cli = cli, .params = params, .text.escape = cli->stdout_tty};
    struct err err;
    int r;

    if (cli_args_params(args, "vm.logs", params, &err) < 0 || put_source(args, params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    json_put(params, "vm", json_bytes_new(ref, strlen(ref)));
    r = read_log(&f, cli_arg(args, "follow") != NULL, &err);
    out_text_end(&f.text);
    return r < 0 ? each_fail(cli, NULL, DOING, ref, &err) : 0;
}
