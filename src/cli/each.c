#include "cli/each.h"

#include "base/str.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

int each_fail(struct cli *cli, const struct client *c, const char *doing, const char *ref,
              const struct err *err)
{
    _cleanup_free_ char *safe = str_escape(ref, strlen(ref), 64);
    _cleanup_free_ char *what = x_asprintf("cannot %s '%s'", doing, safe);

    return out_error(cli, c, what, err);
}

int each_operand(struct cli *cli, const struct cli_args *args, const struct each *each,
                 json_t **ret_results)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *flags = json_object();
    json_t *results;
    struct err err;
    int status = 0;

    if (cli_args_params(args, each->method, flags, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    if (cli_connect(cli, true, &c, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    results = json_array();
    for (size_t i = 0; i < args->operand_count; i++) {
        const char *ref = args->operands[i];
        json_t *params = json_copy(flags);
        json_t *result = NULL;

        json_put(params, each->param, json_bytes_new(ref, strlen(ref)));
        if (client_call(c, each->method, params, &result, &err) == 0) {
            json_array_append_new(results, result);
            continue;
        }
        status = each_fail(cli, c, each->doing, ref, &err);
        if (err.code == ERR_IO) {
            break; /* the connection may be gone, and each error would say the same */
        }
    }
    *ret_results = results;
    return status;
}

void each_print(const struct cli *cli, const struct cli_args *args, const json_t *results)
{
    const json_t *result;
    size_t i;

    if (!results) {
        return; /* the error is printed */
    }
    if (args->operand_count > 1 && cli->format == FORMAT_JSON) {
        out_json(cli, results);
        return;
    }
    json_array_foreach ((json_t *)results, i, result) {
        if (i > 0 && cli->format == FORMAT_TABLE) {
            (void)putchar('\n');
        }
        (void)out_object(cli, result);
    }
}
