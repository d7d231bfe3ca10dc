#include "base/clock.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/each.h"
#include "cli/output.h"
#include "cli/pages.h"
#include "cli/select.h"

#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES ((size_t)256 * 1024) /* 64 labels, before and after */

/* Listings --------------------------------------------------------------------------------------*/

static char *cell_reason(const json_t *vm)
{
    return x_strdup(json_str(vm, "reason", NULL));
}

static char *cell_image(const json_t *vm)
{
    const char *name = json_str(json_object_get(vm, "image"), "name", NULL);

    return name && str_starts_with(name, "sha256:") ? x_strndup(name + 7, 12) : x_strdup(name);
}

static char *cell_vcpus(const json_t *vm)
{
    return x_asprintf("%lld", json_int(vm, "vcpus", 0));
}

static char *cell_memory(const json_t *vm)
{
    long long mib = json_int(vm, "memory_mib", 0);

    return out_size(mib > 0 && mib < 1LL << 40 ? mib << 20 : 0);
}

static void add_page(void *arg, json_t *page)
{
    out_rows_add(arg, page);
}

static int list_vms(struct cli *cli, const struct cli_args *args, bool all)
{
    /* What the columns show. */
    static const char shown[] = "name|state|reason|image.name|vcpus|memory_mib|created_at";
    static const struct out_column columns[] = {
        {"ID", cell_id, 0},
        {"NAME", cell_name, 0},
        {"STATE", cell_state, 0},
        {"REASON", cell_reason, 0},
        {"IMAGE", cell_image, 0},
        {"VCPU", cell_vcpus, OUT_RIGHT},
        {"MEM", cell_memory, OUT_RIGHT},
        {"CREATED", cell_created, 0},
    };
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *vms = NULL, *selected = NULL;
    _cleanup_select_ struct select select = {0};
    _cleanup_free_ char *members = NULL;
    struct err err;

    if (select_parse(args, "vm.list", &select, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    /* Who asks for states by name means those that are stopped, too. */
    all = all || select_filters(&select, "state");
    if (cli_connect(cli, true, &c, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    if (cli->format == FORMAT_TABLE && !cli->quiet && select_is_all(&select)) {
        _cleanup_(out_rows_free_p) struct out_rows *rows =
            out_rows_new(columns, ARRAY_LEN(columns));

        if (pages_each(c, all, shown, add_page, rows, &err) < 0) {
            return out_error(cli, NULL, NULL, &err);
        }
        out_rows_print(cli, rows);
        return 0;
    }
    if (cli->quiet || cli->format == FORMAT_TABLE) {
        members = select_members(&select, cli->quiet ? "created_at" : shown);
    }
    if (pages_list_vms(c, all, members, &vms, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    selected = select_rows(&select, vms);
    return out_list(cli, selected, columns, ARRAY_LEN(columns));
}

int cmd_ps(struct cli *cli, const struct cli_args *args)
{
    return list_vms(cli, args, cli_arg(args, "all") != NULL);
}

int cmd_vm_list(struct cli *cli, const struct cli_args *args)
{
    return list_vms(cli, args, true);
}

static char *cell_incarnation(const json_t *start)
{
    return x_asprintf("%lld", json_int(start, "incarnation", 0));
}

static char *cell_accel(const json_t *start)
{
    return x_strdup(json_str(start, "accel", NULL));
}

static char *cell_started(const json_t *start)
{
    return x_strdup(json_str(start, "started_at", NULL));
}

static char *cell_ms(const json_t *start)
{
    return x_asprintf("%lld", json_int(start, "ms", 0));
}

static char *cell_steps(const json_t *start)
{
    char *text = x_strdup("");
    const json_t *phase;
    size_t i;

    json_array_foreach (json_object_get(start, "timeline"), i, phase) {
        _cleanup_free_ char *before = text;

        text = x_asprintf("%s%s%s %lld", before, i > 0 ? ", " : "", json_str(phase, "phase", ""),
                          json_int(phase, "ms", 0));
    }
    return text;
}

int cmd_vm_timeline(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"START", cell_incarnation, OUT_RIGHT},
        {"STARTED", cell_started, 0},
        {"ACCEL", cell_accel, 0},
        {"MS", cell_ms, OUT_RIGHT},
        {"STEPS", cell_steps, OUT_WHOLE},
    };
    const char *ref = args->operands[0];
    _cleanup_json_ json_t *params = json_object(), *starts = NULL;
    struct err err;

    json_put(params, "vm", json_bytes_new(ref, strlen(ref)));
    if (cli_call(cli, "vm.timeline", STEAL_PTR(params), &starts, &err) < 0) {
        return each_fail(cli, NULL, "show", ref, &err);
    }
    if (cli->quiet) {
        const json_t *start;
        size_t i;

        json_array_foreach (starts, i, start) {
            (void)printf("%lld\n", json_int(start, "incarnation", 0));
        }
        return 0;
    }
    return out_list(cli, starts, columns, ARRAY_LEN(columns));
}

static char *cell_since(const json_t *pruned)
{
    return out_age(json_str(pruned, "state_since", ""), clock_real_ms());
}

static char *cell_bytes(const json_t *pruned)
{
    return out_size(json_int(pruned, "bytes", 0));
}

int cmd_vm_prune(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"ID", cell_id, 0},       {"NAME", cell_name, 0},          {"STATE", cell_state, 0},
        {"SINCE", cell_since, 0}, {"SIZE", cell_bytes, OUT_RIGHT},
    };
    _cleanup_json_ json_t *params = json_object(), *pruned = NULL;
    const json_t *one;
    struct err err;
    int status = 0;
    size_t i;

    if (cli_args_params(args, "vm.prune", params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    if (cli_call(cli, "vm.prune", STEAL_PTR(params), &pruned, &err) < 0) {
        return out_error(cli, NULL, "cannot prune", &err);
    }
    (void)out_list(cli, pruned, columns, ARRAY_LEN(columns));
    json_array_foreach (pruned, i, one) {
        const char *why = json_str(one, "error", NULL);

        if (why) {
            err_set(&err, ERR_IO, "%s", why);
            err_hint(&err, "banger rm --force %s tries once more", json_str(one, "name", ""));
            status = each_fail(cli, NULL, "delete", json_str(one, "name", ""), &err);
        }
    }
    return status;
}

/* Verbs on several VMs --------------------------------------------------------------------------*/

int cmd_vm_show(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status = each_operand(cli, args, &(struct each){"vm.show", "vm", "show"}, &results);

    each_print(cli, args, results);
    return status;
}

/* Verbs that say nothing when all is well, unless a program reads along. */
static int change(struct cli *cli, const struct cli_args *args, const char *method,
                  const char *doing)
{
    _cleanup_json_ json_t *results = NULL;
    int status = each_operand(cli, args, &(struct each){method, "vm", doing}, &results);

    if (cli->format != FORMAT_TABLE) {
        each_print(cli, args, results);
    }
    return status;
}

int cmd_vm_start(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.start", "start");
}

int cmd_vm_stop(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.stop", "stop");
}

int cmd_vm_restart(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.restart", "restart");
}

int cmd_vm_kill(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.kill", "kill");
}

int cmd_vm_pause(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.pause", "pause");
}

int cmd_vm_resume(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.resume", "resume");
}

int cmd_vm_wait(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.wait", "wait for");
}

int cmd_vm_touch(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.touch", "touch");
}

int cmd_vm_delete(struct cli *cli, const struct cli_args *args)
{
    return change(cli, args, "vm.delete", "delete");
}

/* Changes ---------------------------------------------------------------------------------------*/

static void print_change(const char *vm, const json_t *change)
{
    const char *applies = json_str(change, "applies", "");
    const char *note = json_str(change, "note", NULL);
    _cleanup_free_ char *line =
        x_asprintf("%s: %s '%s' -> '%s'%s%s%s", vm, json_str(change, "field", ""),
                   json_str(change, "from", ""), json_str(change, "to", ""),
                   str_eq(applies, "refused")      ? ", refused"
                   : str_eq(applies, "next_start") ? ", from its next start on"
                                                   : "",
                   note ? ": " : "", note ? note : "");

    _cleanup_free_ char *safe = str_escape(line, strlen(line), LINE_MAX_BYTES);

    (void)puts(safe);
}

static void print_changes(const json_t *results)
{
    const json_t *result, *change;
    size_t i, k;

    json_array_foreach ((json_t *)results, i, result) {
        const char *vm = json_str(json_object_get(result, "vm"), "name", "");

        json_array_foreach (json_object_get(result, "changes"), k, change) {
            print_change(vm, change);
        }
    }
}

int cmd_vm_set(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *results = NULL;
    int status = each_operand(cli, args, &(struct each){"vm.set", "vm", "change"}, &results);

    if (cli->format != FORMAT_TABLE) {
        each_print(cli, args, results);
    } else if (!cli->quiet) {
        print_changes(results);
    }
    return status;
}

int cmd_vm_rename(struct cli *cli, const struct cli_args *args)
{
    const char *ref = args->operands[0], *name = args->operands[1];
    _cleanup_json_ json_t *params = json_object(), *result = NULL;
    struct err err;

    json_put(params, "vm", json_bytes_new(ref, strlen(ref)));
    json_put(params, "name", json_bytes_new(name, strlen(name)));
    if (cli_call(cli, "vm.set", STEAL_PTR(params), &result, &err) < 0) {
        return each_fail(cli, NULL, "rename", ref, &err);
    }
    if (cli->format != FORMAT_TABLE) {
        out_json(cli, result);
    }
    return 0;
}
