#include "cli/each.h"

#include "base/id.h"
#include "base/str.h"
#include "cli/output.h"
#include "cli/pages.h"

#include <stdio.h>
#include <string.h>

int each_fail(struct cli *cli, const struct client *c, const char *doing, const char *ref,
              const struct err *err)
{
    _cleanup_free_ char *safe = str_escape(ref, strlen(ref), 64);
    _cleanup_free_ char *what = x_asprintf("cannot %s '%s'", doing, safe);

    return out_error(cli, c, what, err);
}

/* What is called for: an operand, or the first of several that mean the same thing. */
struct target {
    const char *ref; /* as it was typed first */
    char *id;        /* or NULL: the daemon says what is wrong with ref */
};

static void targets_free(struct target *targets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(targets[i].id);
    }
    free(targets);
}

/* The id of the VM that ref means, as the daemon sees it: a name, an id, a beginning of just one.
 * NULL when there is none, or more than one. */
static const char *id_of(const json_t *vms, const char *ref)
{
    const char *by_id = NULL;
    unsigned matches = 0;
    const json_t *vm;
    size_t i;

    json_array_foreach ((json_t *)vms, i, vm) {
        const char *id = json_str(vm, "id", "");

        if (str_eq(json_str(vm, "name", ""), ref)) {
            return id;
        }
        if (id_is_prefix(ref) && str_starts_with(id, ref)) {
            by_id = id;
            matches++;
        }
    }
    return matches == 1 ? by_id : NULL;
}

static bool is_known(const struct target *targets, size_t count, const char *ref, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (str_eq(targets[i].ref, ref) || (id && targets[i].id && str_eq(targets[i].id, id))) {
            return true;
        }
    }
    return false;
}

/* Looks all of them up in one list, so that a VM is worked on once, however often it is named. */
static int find_targets(struct client *c, const struct cli_args *args, const struct each *each,
                        struct target *targets, size_t *ret_count, struct err *err)
{
    _cleanup_json_ json_t *vms = NULL;
    size_t count = 0;

    if (args->operand_count > 1 && str_eq(each->param, "vm") &&
        pages_list_vms(c, true, "name|created_at", &vms, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < args->operand_count; i++) {
        const char *ref = args->operands[i];
        const char *id = vms ? id_of(vms, ref) : NULL;

        if (!is_known(targets, count, ref, id)) {
            targets[count++] = (struct target){.ref = ref, .id = x_strdup(id)};
        }
    }
    *ret_count = count;
    return 0;
}

static json_t *params_of(const struct target *target, const struct each *each, const json_t *flags)
{
    const char *ref = target->id ? target->id : target->ref;
    json_t *params = json_copy((json_t *)flags);

    json_put(params, each->param, json_bytes_new(ref, strlen(ref)));
    return params;
}

static int call_targets(struct cli *cli, struct client *c, const struct each *each,
                        const json_t *flags, const struct target *targets, size_t count,
                        json_t *results)
{
    struct client_reply *replies = x_calloc(count, sizeof(*replies));
    json_t **params = x_calloc(count, sizeof(json_t *));
    bool broken = false;
    int status = 0;
    struct err err;

    for (size_t i = 0; i < count; i++) {
        params[i] = params_of(&targets[i], each, flags);
    }
    broken = client_call_all(c, each->method, params, count, replies, &err) < 0;
    for (size_t i = 0; i < count; i++) {
        if (replies[i].result) {
            json_array_append_new(results, replies[i].result);
        } else if (replies[i].answered) {
            status = each_fail(cli, c, each->doing, targets[i].ref, &replies[i].err);
        } else if (broken) {
            /* Once: each of the others would say the same. */
            status = each_fail(cli, c, each->doing, targets[i].ref, &err);
            broken = false;
        }
    }
    free(params);
    free(replies);
    return status;
}

int each_operand(struct cli *cli, const struct cli_args *args, const struct each *each,
                 json_t **ret_results)
{
    struct target *targets = x_calloc(args->operand_count, sizeof(*targets));
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *flags = json_object();
    size_t count = 0;
    struct err err;
    int status;

    if (cli_args_params(args, each->method, flags, &err) < 0) {
        status = out_usage(cli, args->verb->path, &err);
    } else if (cli_connect(cli, true, &c, &err) < 0 ||
               find_targets(c, args, each, targets, &count, &err) < 0) {
        status = out_error(cli, NULL, NULL, &err);
    } else {
        *ret_results = json_array();
        status = call_targets(cli, c, each, flags, targets, count, *ret_results);
    }
    targets_free(targets, count);
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
