/* banger events: what there is, and with -f what comes. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/select.h"

#include <stdio.h>
#include <string.h>

#define PAGE 1000

struct follower {
    struct cli *cli;
    struct select select;
    long long number; /* of the last event that was seen */
    bool begun;       /* whether there was one, or a number to go on from */
    json_t *rows;     /* kept for an array as JSON; or NULL */
};

static void print_line(const json_t *event)
{
    static const char *const keys[] = {"time", "kind", "name", "object", "reason"};
    static const int widths[] = {24, 12, 16, 12, 0};
    static const size_t most[] = {24, 32, 128, 12, 256};
    _cleanup_free_ char *line = x_asprintf("%6lld", json_int(event, "number", 0));

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *text = json_str(event, keys[i], "");
        size_t len = strnlen(text, str_starts_with(text, "sha256:") ? 7 + most[i] : most[i]);
        _cleanup_free_ char *safe = str_escape(text, len, 4 * len + 1);
        _cleanup_free_ char *before = line;

        line = x_asprintf("%s  %-*s", before, widths[i], safe[0] ? safe : "-");
    }
    for (size_t len = strlen(line); len > 0 && (line[len - 1] == ' ' || line[len - 1] == '-');) {
        line[--len] = '\0';
    }
    (void)puts(line);
}

static void take(struct follower *f, const json_t *event)
{
    _cleanup_json_ json_t *one = json_pack("[O]", event), *shown = NULL;
    long long number = json_int(event, "number", 0);

    if (f->begun && number > f->number + 1) {
        (void)fprintf(stderr, "banger: %lld events after %lld are no longer kept\n",
                      number - f->number - 1, f->number);
    }
    f->begun = true;
    f->number = number;
    shown = select_rows(&f->select, one);
    if (json_array_size(shown) == 0) {
        return;
    }
    if (f->rows) {
        json_array_append(f->rows, (json_t *)event);
    } else if (f->cli->quiet) {
        (void)printf("%lld\n", number);
    } else if (f->cli->format == FORMAT_TABLE) {
        print_line(event);
    } else {
        out_json(f->cli, event);
    }
}

static json_t *since(const struct follower *f)
{
    json_t *params = json_object();

    json_put_int(params, "since", f->number);
    return params;
}

static int list(struct follower *f, struct client *c, struct err *err)
{
    size_t count;

    do {
        _cleanup_json_ json_t *events = NULL;
        const json_t *event;
        size_t i;

        if (client_call(c, "events.list", since(f), &events, err) < 0) {
            return -1;
        }
        json_array_foreach (events, i, event) {
            take(f, event);
        }
        count = json_array_size(events);
    } while (count == PAGE);
    return 0;
}

static void on_event(void *arg, const char *method, const json_t *event)
{
    if (str_eq(method, "events.event")) {
        take(arg, event);
        (void)fflush(stdout);
    }
}

static int follow(struct follower *f, struct client *c, struct err *err)
{
    struct client_watch watch = {.notify = on_event, .wake_fd = -1, .arg = f};
    _cleanup_json_ json_t *nothing = NULL;

    /* Whoever reads us may be slow; what the daemon did not send us is still there. */
    do {
        err->code = ERR_NONE;
    } while (client_call_watched(c, "events.subscribe", since(f), &watch, &nothing, err) < 0 &&
             err->code == ERR_LIMIT);
    if (err->code != ERR_NONE && f->begun) {
        err_hint(err, "go on with: banger events -f --since %lld", f->number);
    }
    return err->code == ERR_NONE ? 0 : -1;
}

int cmd_events(struct cli *cli, const struct cli_args *args)
{
    bool follows = cli_arg(args, "follow") != NULL;
    _cleanup_json_ json_t *params = json_object(), *rows = NULL;
    _cleanup_client_ struct client *c = NULL;
    struct follower f = {.cli = cli};
    struct err err;
    int r;

    if (follows && cli->format == FORMAT_JSON) {
        err_set(&err, ERR_INVALID, "--follow: an array of what never ends cannot be printed");
        err_hint(&err, "use --format jsonl, an object a line");
        return out_usage(cli, args->verb->path, &err);
    }
    if (select_parse(args, "events.list", &f.select, &err) < 0 ||
        cli_args_params(args, "events.list", params, &err) < 0) {
        select_done(&f.select);
        return out_usage(cli, args->verb->path, &err);
    }
    f.number = json_int(params, "since", 0);
    f.begun = f.number > 0;
    if (cli->format == FORMAT_JSON) {
        f.rows = rows = json_array();
    }
    r = cli_connect(cli, true, &c, &err);
    if (r == 0) {
        r = follows ? follow(&f, c, &err) : list(&f, c, &err);
    }
    select_done(&f.select);
    if (r < 0) {
        return out_error(cli, c, NULL, &err);
    }
    if (rows) {
        out_json(cli, rows);
    }
    return 0;
}
