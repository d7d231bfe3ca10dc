#include "base/attr.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#define STOP_MS 30000

int cmd_daemon_status(struct cli *cli, const struct cli_args *args)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *status = NULL;
    struct err err;

    (void)args;
    if (cli_connect(cli, false, &c, &err) < 0 ||
        client_call(c, "daemon.status", NULL, &status, &err) < 0) {
        return out_error(cli, c, NULL, &err);
    }
    return out_object(cli, status);
}

/* Its answer comes before its end; the next command must not meet a daemon that is ending. */
static int await_end(struct cli *cli, int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    struct err err;
    int r;

    do {
        r = poll(&p, 1, STOP_MS);
    } while (r < 0 && errno == EINTR);
    if (r != 0) {
        return 0;
    }
    err_set(&err, ERR_TIMEOUT, "the daemon is still ending after %d s", STOP_MS / 1000);
    return out_error(cli, NULL, NULL, &err);
}

int cmd_daemon_stop(struct cli *cli, const struct cli_args *args)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *ignored = NULL;
    _cleanup_close_ int pidfd = -1;
    struct err err;

    (void)args;
    if (cli_connect(cli, false, &c, &err) < 0) {
        if (err.code == ERR_NOT_RUNNING) {
            (void)fputs("banger: the daemon is not running\n", stderr);
            return 0;
        }
        return out_error(cli, NULL, NULL, &err);
    }
    pidfd = pidfd_open(client_daemon_pid(c), 0);
    if (client_call(c, "daemon.stop", NULL, &ignored, &err) < 0 && err.code != ERR_IO) {
        return out_error(cli, c, NULL, &err);
    }
    return pidfd >= 0 ? await_end(cli, pidfd) : 0;
}

static void print_line(struct cli *cli, char *line)
{
    out_guest_text(cli, line, strlen(line));
    free(line);
}

/* "process 4711: no VM has it: killed", "…: would be killed", "…: not killed: why". */
static char *describe(const json_t *o, bool dry_run)
{
    static const struct {
        const char *action, *done;
    } words[] = {{"adopt", "adopted"},
                 {"stop", "set to stopped"},
                 {"remove", "removed"},
                 {"kill", "killed"},
                 {"none", "left as it is"}};
    const char *action = json_str(o, "action", ""), *vm = json_str(o, "vm", NULL);
    const char *error = json_str(o, "error", NULL), *done = action;
    bool none = str_eq(action, "none");

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        done = str_eq(action, words[i].action) ? words[i].done : done;
    }
    return x_asprintf("%s%s%s: %s: %s%s%s%s\n", json_str(o, "object", ""), vm ? " of VM " : "",
                      vm ? vm : "", json_str(o, "problem", ""),
                      none      ? ""
                      : dry_run ? "would be "
                      : error   ? "not "
                                : "",
                      done, error ? ": " : "", error ? error : "");
}

int cmd_daemon_reconcile(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *params = json_object(), *list = NULL;
    struct err err;
    bool dry_run;
    int status = 0;
    json_t *o;
    size_t i;

    if (cli_args_params(args, "daemon.reconcile", params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    dry_run = json_flag(params, "dry_run", false);
    if (cli_call(cli, "daemon.reconcile", STEAL_PTR(params), &list, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    json_array_foreach (list, i, o) {
        if (!dry_run && (json_str(o, "error", NULL) || str_eq(json_str(o, "action", ""), "none"))) {
            status = EXIT_FAILED;
        }
        if (cli->format == FORMAT_TABLE && !cli->quiet) {
            print_line(cli, describe(o, dry_run));
        } else if (cli->format == FORMAT_JSONL) {
            out_json(cli, o);
        }
    }
    if (cli->format == FORMAT_JSON) {
        out_json(cli, list);
    }
    return status;
}

int cmd_daemon_verify_store(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *check = NULL;
    const json_t *problems;
    struct err err;
    json_t *p;
    size_t i;

    (void)args;
    if (cli_call(cli, "daemon.verify_store", NULL, &check, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    problems = json_object_get(check, "problems");
    if (cli->format != FORMAT_TABLE) {
        (void)out_object(cli, check);
    } else {
        json_array_foreach (problems, i, p) {
            print_line(cli, x_asprintf("%s\n", json_string_value(p)));
        }
    }
    return json_array_size(problems) > 0 ? EXIT_FAILED : 0;
}
