/* image, kernel, session and op: listings, and the two imports. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/each.h"
#include "cli/op_wait.h"
#include "cli/output.h"
#include "cli/select.h"
#include "codec/rpc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int list(struct cli *cli, const struct cli_args *args, const char *method, json_t *params,
                const struct out_column *columns, size_t count)
{
    _cleanup_select_ struct select select = {0};
    _cleanup_json_ json_t *rows = NULL, *shown = NULL;
    struct err err;

    if (select_parse(args, method, &select, &err) < 0) {
        json_decref(params);
        return out_usage(cli, args->verb->path, &err);
    }
    if (cli_call(cli, method, params, &rows, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    shown = select_rows(&select, rows);
    return out_list(cli, shown, columns, count);
}

/* Begins with {name, path}, waits, and prints the result's name or object. */
static int import(struct cli *cli, const struct cli_args *args, const char *method)
{
    _cleanup_free_ char *path = realpath(args->operands[1], NULL);
    _cleanup_json_ json_t *result = NULL;
    json_t *params;
    struct err err;
    int status;

    if (!path) {
        err_set_errno(&err, ERR_IO, errno, "cannot find '%s'", args->operands[1]);
        err_hint(&err, "banger %s --help says what it must be", args->verb->path);
        return out_error(cli, NULL, NULL, &err);
    }
    params = json_object();
    json_put_str(params, "name", args->operands[0]);
    json_put(params, "path", json_bytes_new(path, strlen(path)));
    result = op_run(cli, method, params, &status);
    if (!result) {
        return status;
    }
    if (cli->format != FORMAT_TABLE) {
        return out_object(cli, result);
    }
    (void)puts(json_str(result, "digest", json_str(result, "id", "")));
    return 0;
}

/* Images ----------------------------------------------------------------------------------------*/

static char *cell_size(const json_t *image)
{
    return out_size(json_int(image, "size_bytes", 0));
}

int cmd_image_list(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"DIGEST", cell_id, 0},
        {"NAME", cell_name, 0},
        {"SIZE", cell_size, OUT_RIGHT},
        {"CREATED", cell_created, 0},
    };

    return list(cli, args, "image.list", NULL, columns, ARRAY_LEN(columns));
}

int cmd_image_register(struct cli *cli, const struct cli_args *args)
{
    return import(cli, args, "image.register.begin");
}

/* Kernels ---------------------------------------------------------------------------------------*/

static char *cell_version(const json_t *kernel)
{
    return x_strdup(json_str(kernel, "version", NULL));
}

int cmd_kernel_list(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"DIGEST", cell_id, 0},
        {"NAME", cell_name, 0},
        {"VERSION", cell_version, 0},
        {"CREATED", cell_created, 0},
    };

    return list(cli, args, "kernel.list", NULL, columns, ARRAY_LEN(columns));
}

int cmd_kernel_import(struct cli *cli, const struct cli_args *args)
{
    return import(cli, args, "kernel.import.begin");
}

/* Sessions --------------------------------------------------------------------------------------*/

static char *cell_exit(const json_t *session)
{
    const json_t *end = json_object_get(session, "exit");
    long long signal = json_int(end, "signal", 0);

    if (signal) {
        return x_asprintf("signal %lld", signal);
    }
    return json_is_integer(json_object_get(end, "code"))
               ? x_asprintf("%lld", json_int(end, "code", 0))
               : NULL;
}

static char *cell_command(const json_t *session)
{
    return out_words(json_object_get(session, "command"));
}

int cmd_session_list(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"ID", cell_id, 0},
        {"STATE", cell_state, 0},
        {"EXIT", cell_exit, 0},
        {"COMMAND", cell_command, 0},
    };
    json_t *params = json_object();

    json_put(params, "vm", json_bytes_new(args->operands[0], strlen(args->operands[0])));
    return list(cli, args, "session.list", params, columns, ARRAY_LEN(columns));
}

/* Ends as the session's command did, when that is known. */
static int status_of(struct cli *cli, const json_t *session)
{
    const json_t *end = json_object_get(session, "exit");
    long long signal = json_int(end, "signal", 0);
    long long code = json_int(end, "code", -1);
    struct err err;

    if (signal > 0 && signal < 128) {
        return 128 + (int)signal;
    }
    if (code >= 0 && code <= 255) {
        return (int)code;
    }
    err_set(&err, ERR_GUEST, "session '%s' is %s: its command's status is not known",
            json_str(session, "id", ""), json_str(session, "state", "in no state"));
    err_hint(&err, "banger session list %s", json_str(session, "vm", "VM"));
    (void)out_error(cli, NULL, NULL, &err);
    return EXIT_BANGER;
}

int cmd_session_wait(struct cli *cli, const struct cli_args *args)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *params = json_object();
    _cleanup_json_ json_t *session = NULL;
    const char *vm = args->operands[0], *ref = args->operands[1];
    struct err err;

    if (cli_args_params(args, "session.wait", params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    json_put(params, "vm", json_bytes_new(vm, strlen(vm)));
    json_put(params, "session", json_bytes_new(ref, strlen(ref)));
    if (cli_connect(cli, true, &c, &err) < 0 ||
        client_call(c, "session.wait", STEAL_PTR(params), &session, &err) < 0) {
        (void)each_fail(cli, c, "wait for session", ref, &err);
        return EXIT_BANGER;
    }
    if (cli->format != FORMAT_TABLE) {
        out_json(cli, session);
    }
    return status_of(cli, session);
}

/* Operations ------------------------------------------------------------------------------------*/

static char *cell_kind(const json_t *op)
{
    return x_strdup(json_str(op, "kind", NULL));
}

static char *cell_target(const json_t *op)
{
    return x_strdup(json_str(op, "target", NULL));
}

static char *cell_stage(const json_t *op)
{
    return x_strdup(json_str(op, "stage", NULL));
}

/* What went wrong, or what people should know. */
static char *cell_note(const json_t *op)
{
    return x_strdup(
        json_str(json_object_get(op, "error"), "message", json_str(op, "message", NULL)));
}

int cmd_op_list(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"ID", cell_id, 0},       {"KIND", cell_kind, 0},   {"TARGET", cell_target, OUT_WHOLE},
        {"STATE", cell_state, 0}, {"STAGE", cell_stage, 0}, {"NOTE", cell_note, 0},
    };

    return list(cli, args, "op.list", NULL, columns, ARRAY_LEN(columns));
}

int cmd_op_show(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status = each_operand(cli, args, &(struct each){"op.status", "op", "show"}, &results);

    each_print(cli, args, results);
    return status;
}

int cmd_op_cancel(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status = each_operand(cli, args, &(struct each){"op.cancel", "op", "cancel"}, &results);

    if (cli->format != FORMAT_TABLE) {
        each_print(cli, args, results);
    }
    return status;
}

/* How operations ended that were waited for; the status. */
static int tell_failures(struct cli *cli, const json_t *operations)
{
    const json_t *op;
    int status = 0;
    size_t i;

    json_array_foreach ((json_t *)operations, i, op) {
        const json_t *error = json_object_get(op, "error");
        struct err err;

        if (str_eq(json_str(op, "state", ""), "done")) {
            continue;
        }
        err_set(&err, ERR_CANCELLED, "cancelled");
        if (json_is_object(error)) {
            rpc_error_read(error, &err);
        }
        status = each_fail(cli, NULL, "finish", json_str(op, "id", ""), &err);
    }
    return status;
}

int cmd_op_wait(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status = each_operand(cli, args, &(struct each){"op.watch", "op", "wait for"}, &results);
    int ended = tell_failures(cli, results);

    if (cli->format != FORMAT_TABLE) {
        each_print(cli, args, results);
    }
    return status ? status : ended;
}
