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

/* Logs ------------------------------------------------------------------------------------------*/

int cmd_vm_logs(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *params = json_object();
    _cleanup_json_ json_t *result = NULL;
    _cleanup_free_ char *text = NULL;
    const char *ref = args->operands[0];
    struct err err;
    size_t len;

    if (cli_args_params(args, "vm.logs", params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    json_put(params, "vm", json_bytes_new(ref, strlen(ref)));
    if (cli_call(cli, "vm.logs", STEAL_PTR(params), &result, &err) < 0) {
        return each_fail(cli, NULL, "read the log of", ref, &err);
    }
    if (cli->format != FORMAT_TABLE) {
        out_json(cli, result);
        return 0;
    }
    if (json_bytes_get(json_object_get(result, "text"), &text, &len) < 0) {
        err_set(&err, ERR_IO, "the daemon sent no text");
        return each_fail(cli, NULL, "read the log of", ref, &err);
    }
    out_guest_text(cli, text, len);
    return 0;
}
