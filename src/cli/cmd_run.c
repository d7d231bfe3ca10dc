/* run and vm create: both make a VM. */
#include "base/clock.h"
#include "base/str.h"
#include "cli/attach.h"
#include "cli/cli.h"
#include "cli/op_wait.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/signals.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DELETE_WAIT_MS 10000

/* What is before the --
 * ----------------------------------------------------------------------------*/

static bool names_image(const json_t *images, const char *word)
{
    const json_t *image, *name;
    size_t i, n;

    json_array_foreach ((json_t *)images, i, image) {
        json_array_foreach (json_object_get(image, "names"), n, name) {
            if (str_eq(json_string_value(name), word)) {
                return true;
            }
        }
    }
    return false;
}

static int surplus(struct cli *cli, const char *word)
{
    _cleanup_json_ json_t *images = NULL;
    _cleanup_free_ char *safe = str_escape(word, strlen(word), 64);
    struct stat st;
    struct err err;

    if (!strchr(word, '/') && cli_call(cli, "image.list", NULL, &images, &err) == 0 &&
        names_image(images, word)) {
        err_set(&err, ERR_INVALID, "%s is an image: use --image %s", safe, safe);
        err_hint(&err, "banger run --image %s -- COMMAND...", safe);
    } else if (strchr(word, '/') || (stat(word, &st) == 0 && S_ISDIR(st.st_mode))) {
        err_set(&err, ERR_UNSUPPORTED, "run PATH is not supported yet: '%s'", safe);
        err_hint(&err, "put the command after --: banger run -- COMMAND...");
    } else {
        err_set(&err, ERR_INVALID, "unexpected argument '%s': put the command after --", safe);
        err_hint(&err, "banger run -- %s ...", safe);
    }
    return out_usage(cli, "run", &err);
}

/* Making a VM -----------------------------------------------------------------------------------*/

struct creation {
    struct cli *cli;
    const struct cli_args *args;
    struct client *client;
    struct op_wait wait;
    json_t *result; /* {vm, session} */
    int64_t start_ms;
};

static void creation_done(struct creation *c)
{
    client_free(c->client);
    close_p(&c->wait.signals_fd);
    json_decref(c->result);
}
#define _cleanup_creation_ _cleanup_(creation_done)

/* Reads --timeout and the flags of the VM. */
static int read_flags(struct creation *c, json_t *params, struct err *err)
{
    for (size_t i = 0; i < c->args->given_count; i++) {
        const struct cli_given *g = &c->args->given[i];

        if (str_eq(g->flag->name, "timeout") &&
            cli_flag_number(g->flag, g->value, &c->wait.timeout_ms, err) < 0) {
            return -1;
        }
    }
    return cli_args_params(c->args, "vm.create.begin", params, err);
}

/* Creates with params (stolen). 0, or failed's status for an error, which is printed. */
static int create(struct creation *c, json_t *params, int failed)
{
    _cleanup_json_ json_t *owned = params;
    _cleanup_json_ json_t *op = NULL;
    struct cli *cli = c->cli;
    struct err err;

    c->start_ms = clock_mono_ms();
    if (cli_connect(cli, true, &c->client, &err) < 0) {
        (void)out_error(cli, NULL, NULL, &err);
        return failed;
    }
    c->wait.signals_fd = signals_open();
    if (client_call(c->client, "vm.create.begin", STEAL_PTR(owned), &op, &err) < 0 ||
        op_wait(cli, c->client, op, &c->wait, &c->result, &err) < 0) {
        (void)out_error(cli, c->client, NULL, &err);
        if (cli->debug && c->wait.op[0]) {
            (void)fprintf(stderr, "debug: operation %s\n", c->wait.op);
        }
        return c->wait.signal ? 128 + c->wait.signal : failed;
    }
    return 0;
}

static const json_t *created_vm(const struct creation *c)
{
    return json_object_get(c->result, "vm");
}

static char *created_name(const struct creation *c)
{
    const char *name = json_str(created_vm(c), "name", "");

    return str_escape(name, strlen(name), 64);
}

static void say_created(const struct creation *c)
{
    _cleanup_free_ char *name = created_name(c);

    if (!c->cli->quiet) {
        (void)fprintf(stderr, "banger: created %s in %.1f s\n", name,
                      (double)(clock_mono_ms() - c->start_ms) / 1000);
    }
}

static int print_created(const struct creation *c)
{
    if (c->cli->format != FORMAT_TABLE) {
        return out_object(c->cli, created_vm(c));
    }
    (void)puts(json_str(created_vm(c), "name", ""));
    return 0;
}

int cmd_vm_create(struct cli *cli, const struct cli_args *args)
{
    _cleanup_creation_ struct creation c = {.cli = cli, .args = args, .wait.signals_fd = -1};
    _cleanup_json_ json_t *params = json_object();
    struct err err;
    int status;

    if (read_flags(&c, params, &err) < 0) {
        return out_usage(cli, "vm create", &err);
    }
    if (cli_arg(args, "no-start")) {
        json_put_bool(params, "start", false);
    }
    status = create(&c, STEAL_PTR(params), EXIT_FAILED);
    return status ? status : print_created(&c);
}

/* run -------------------------------------------------------------------------------------------*/

/* The daemon ended first. The next one would give us time to come back, but we have all we want. */
static int delete_with_next_daemon(struct creation *c, const char *vm, struct err *err)
{
    _cleanup_json_ json_t *ignored = NULL;
    json_t *params;

    if (session_next_daemon(c->cli, &c->client, clock_mono_ms() + DELETE_WAIT_MS, err) < 0) {
        return -1;
    }
    params = json_object();
    json_put_str(params, "vm", vm);
    json_put_bool(params, "force", true);
    return client_call(c->client, "vm.delete", params, &ignored, err);
}

/* The daemon deletes it; whoever runs the next command must not see it any more. */
static void await_deletion(struct creation *c, const char *vm)
{
    _cleanup_json_ json_t *ignored = NULL;
    struct session_wake wake = {.signals_fd = c->wait.signals_fd};
    struct client_watch watch = {.wake_fd = c->wait.signals_fd, .wake = session_wake, .arg = &wake};
    json_t *params = json_object();
    struct err err;
    int r;

    json_put_str(params, "vm", vm);
    json_put_str(params, "until", "deleted");
    json_put_int(params, "timeout_ms", DELETE_WAIT_MS);
    r = client_call_watched(c->client, "vm.wait", params, &watch, &ignored, &err);
    if (r < 0 && err.code == ERR_IO && !wake.signal) {
        r = delete_with_next_daemon(c, vm, &err);
    }
    if (r < 0 && err.code != ERR_NOT_FOUND && !wake.signal) {
        (void)out_error(c->cli, c->client, "the VM is not deleted yet", &err);
    }
}

static void say_still_running(const struct creation *c)
{
    _cleanup_free_ char *name = created_name(c);

    if (c->cli->stderr_tty && !c->cli->quiet) {
        (void)fprintf(stderr,
                      "VM '%s' is still running: banger exec %s -- COMMAND | banger stop %s\n",
                      name, name, name);
    }
}

/* What a main session that never ran says; 0 when it runs. */
static int failed_start(struct cli *cli, const json_t *session)
{
    int code = (int)json_int(json_object_get(session, "exit"), "code", EXIT_BANGER);
    struct err err;

    if (!str_eq(json_str(session, "state", NULL), "failed")) {
        return 0;
    }
    err_set(&err, ERR_GUEST, "%s", json_str(session, "error", "the command could not be started"));
    (void)attach_hint_failed(&err, code);
    (void)out_error(cli, NULL, NULL, &err);
    return code == 126 || code == 127 ? code : EXIT_BANGER;
}

static int run_attached(struct creation *c, const struct session_streams *streams)
{
    const char *vm = json_str(created_vm(c), "id", "");
    const json_t *session = json_object_get(c->result, "session");
    bool left;
    int status = session_attach(c->cli,
                                &(struct session_attach){.vm = vm,
                                                         .session = json_str(session, "id", ""),
                                                         .signals_fd = c->wait.signals_fd,
                                                         .streams = *streams,
                                                         .holder = &c->client},
                                &left);

    if (cli_arg(c->args, "rm") && !left) {
        await_deletion(c, vm);
    } else if (!cli_arg(c->args, "rm")) {
        say_still_running(c);
    }
    return status;
}

int cmd_run(struct cli *cli, const struct cli_args *args)
{
    _cleanup_creation_ struct creation c = {.cli = cli, .args = args, .wait.signals_fd = -1};
    _cleanup_json_ json_t *params = json_object();
    bool detach = cli_arg(args, "detach") != NULL;
    struct session_streams streams;
    struct err err;
    json_t *spec;
    int status;

    if (args->operand_count > 0) {
        return surplus(cli, args->operands[0]);
    }
    spec = session_spec(cli, args, &streams, &err);
    if (!spec) {
        return out_usage(cli, "run", &err);
    }
    json_put(params, "main", spec);
    if (read_flags(&c, params, &err) < 0) {
        return out_usage(cli, "run", &err);
    }
    if (!detach) {
        json_put_bool(params, "hold", true);
    }
    status = create(&c, STEAL_PTR(params), EXIT_BANGER);
    if (status != 0) {
        return status;
    }
    if (detach) {
        status = failed_start(cli, json_object_get(c.result, "session"));
        return status ? status : print_created(&c);
    }
    if (!(cli->stderr_tty && cli_arg(args, "rm"))) {
        say_created(&c);
    }
    return run_attached(&c, &streams);
}
