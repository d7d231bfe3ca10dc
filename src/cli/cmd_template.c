/* banger template ... */
#include "base/clock.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/each.h"
#include "cli/op_wait.h"
#include "cli/output.h"
#include "cli/select.h"

#include <stdio.h>
#include <string.h>

static char *cell_image(const json_t *template)
{
    return x_strdup(json_str(json_object_get(template, "image"), "name", ""));
}

static char *cell_size(const json_t *template)
{
    return out_size(json_int(template, "size_bytes", 0));
}

static char *cell_memory(const json_t *template)
{
    return out_size(json_int(template, "memory_mib", 0) << 20);
}

static char *cell_uses(const json_t *template)
{
    return x_asprintf("%lld", json_int(template, "uses", 0));
}

static char *cell_ready(const json_t *template)
{
    return x_asprintf("%lld/%lld", json_int(template, "ready", 0),
                      json_int(template, "pool_size", 0));
}

static char *cell_used(const json_t *template)
{
    return out_age(json_str(template, "used_at", ""), clock_real_ms());
}

static const struct out_column columns[] = {
    {"ID", cell_id, 0},
    {"IMAGE", cell_image, 0},
    {"MEMORY", cell_memory, OUT_RIGHT},
    {"SIZE", cell_size, OUT_RIGHT},
    {"READY", cell_ready, OUT_RIGHT},
    {"USES", cell_uses, OUT_RIGHT},
    {"USED", cell_used, 0},
};

int cmd_template_list(struct cli *cli, const struct cli_args *args)
{
    _cleanup_select_ struct select select = {0};
    _cleanup_json_ json_t *rows = NULL, *shown = NULL;
    struct err err;

    if (select_parse(args, "template.list", &select, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    if (cli_call(cli, "template.list", NULL, &rows, &err) < 0) {
        return out_error(cli, NULL, "cannot list templates", &err);
    }
    shown = select_rows(&select, rows);
    return out_list(cli, shown, columns, ARRAY_LEN(columns));
}

int cmd_template_show(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status =
        each_operand(cli, args, &(struct each){"template.show", "template", "show"}, &results);

    each_print(cli, args, results);
    return status;
}

int cmd_template_create(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *params = json_object(), *result = NULL;
    struct err err;
    int status;

    if (cli_args_params(args, "template.create.begin", params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    result = op_run(cli, "template.create.begin", STEAL_PTR(params), &status);
    if (!result) {
        return status;
    }
    if (cli->format != FORMAT_TABLE) {
        return out_object(cli, result);
    }
    (void)puts(json_str(result, "id", ""));
    return 0;
}

int cmd_template_pool(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status = each_operand(
        cli, args, &(struct each){"template.pool", "template", "set the pool of"}, &results);

    if (cli->format != FORMAT_TABLE) {
        each_print(cli, args, results);
    }
    return status;
}

int cmd_template_delete(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status =
        each_operand(cli, args, &(struct each){"template.delete", "template", "delete"}, &results);

    if (cli->format != FORMAT_TABLE) {
        each_print(cli, args, results);
    }
    return status;
}

static char *cell_problem(const json_t *check)
{
    return x_strdup(json_str(check, "problem", "none"));
}

static char *cell_checked(const json_t *check)
{
    return x_strdup(json_str(check, "image", ""));
}

int cmd_template_verify(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column checked[] = {
        {"ID", cell_id, 0},
        {"IMAGE", cell_checked, 0},
        {"PROBLEM", cell_problem, 0},
    };
    _cleanup_json_ json_t *params = json_object(), *checks = NULL;
    const json_t *one;
    struct err err;
    int status = 0;
    size_t i;

    if (args->operand_count > 0) {
        json_put_str(params, "template", args->operands[0]);
    }
    if (cli_call(cli, "template.verify", STEAL_PTR(params), &checks, &err) < 0) {
        return out_error(cli, NULL, "cannot verify templates", &err);
    }
    (void)out_list(cli, checks, checked, ARRAY_LEN(checked));
    json_array_foreach (checks, i, one) {
        if (json_str(one, "problem", NULL)) {
            status = EXIT_FAILED;
        }
    }
    return status;
}

int cmd_template_prune(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *params = json_object(), *pruned = NULL;
    struct err err;

    if (cli_args_params(args, "template.prune", params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    if (cli_call(cli, "template.prune", STEAL_PTR(params), &pruned, &err) < 0) {
        return out_error(cli, NULL, "cannot prune", &err);
    }
    return out_list(cli, pruned, columns, ARRAY_LEN(columns));
}
