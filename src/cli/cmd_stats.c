#include "base/str.h"
#include "cli/cli.h"
#include "cli/each.h"
#include "cli/output.h"
#include "cli/pages.h"

#include <stdio.h>
#include <string.h>

#define WATCH_MS 2000

/* Cells ----------------------------------------------------------------------------------------*/

static char *permille(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    long long v = json_integer_value(value);

    return json_is_integer(value) ? x_asprintf("%lld.%lld%%", v / 10, v % 10) : NULL;
}

static char *size(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);

    return json_is_integer(value) ? out_size(json_integer_value(value)) : NULL;
}

static char *of(long long part, long long whole)
{
    _cleanup_free_ char *a = out_size(part), *b = out_size(whole);

    return x_asprintf("%s / %s", a, b);
}

static char *bytes(const json_t *o, const char *key)
{
    char *text = NULL;
    size_t len;

    return json_bytes_get(json_object_get(o, key), &text, &len) < 0 ? NULL : text;
}

static char *seconds(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);

    return json_is_integer(value) ? x_asprintf("%.1fs", (double)json_integer_value(value) / 1000)
                                  : NULL;
}

static char *cell_cpu(const json_t *row)
{
    return permille(row, "cpu_permille");
}

static char *cell_cpu_time(const json_t *row)
{
    return seconds(row, "cpu_ms");
}

/* Without PSS what is resident, and said to be that. */
static char *cell_host_memory(const json_t *row)
{
    char *pss = size(row, "pss_bytes");
    _cleanup_free_ char *rss = pss ? NULL : size(row, "rss_bytes");

    return pss ? pss : rss ? x_asprintf("%s rss", rss) : NULL;
}

static char *cell_disk(const json_t *row)
{
    const json_t *disk = json_object_get(row, "disk");

    return json_is_object(disk)
               ? of(json_int(disk, "allocated_bytes", 0), json_int(disk, "apparent_bytes", 0))
               : NULL;
}

static char *cell_load(const json_t *row)
{
    const json_t *guest = json_object_get(row, "guest");

    return json_is_object(guest)
               ? x_asprintf("%.2f", (double)json_int(guest, "load1_permille", 0) / 1000)
               : NULL;
}

static char *cell_guest_memory(const json_t *row)
{
    const json_t *guest = json_object_get(row, "guest");
    long long total = json_int(guest, "memory_total_bytes", 0);
    long long available = json_int(guest, "memory_available_bytes", 0);

    return json_is_object(guest) ? of(total > available ? total - available : 0, total) : NULL;
}

static char *cell_guest_disk(const json_t *row)
{
    const json_t *disk;
    size_t i;

    json_array_foreach (json_object_get(json_object_get(row, "guest"), "disks"), i, disk) {
        _cleanup_free_ char *mount = bytes(disk, "mount");

        if (str_eq(mount, "/")) {
            return of(json_int(disk, "used_bytes", 0), json_int(disk, "size_bytes", 0));
        }
    }
    return NULL;
}

static char *cell_note(const json_t *row)
{
    return x_strdup(json_str(row, "guest_why", NULL));
}

/* Stats ----------------------------------------------------------------------------------------*/

static void print_stats(const struct cli *cli, const json_t *rows, bool in_place)
{
    static const struct out_column columns[] = {
        {"NAME", cell_name, 0},
        {"CPU", cell_cpu, OUT_RIGHT},
        {"CPU TIME", cell_cpu_time, OUT_RIGHT},
        {"MEM", cell_host_memory, OUT_RIGHT},
        {"DISK", cell_disk, OUT_RIGHT},
        {"LOAD", cell_load, OUT_RIGHT},
        {"GUEST MEM", cell_guest_memory, OUT_RIGHT},
        {"GUEST DISK", cell_guest_disk, OUT_RIGHT},
        {"NOTE", cell_note, 0},
    };

    if (in_place) {
        (void)fputs("\033[H\033[2J", stdout);
    }
    (void)out_list(cli, rows, columns, ARRAY_LEN(columns));
    (void)fflush(stdout);
}

/* The operands: those that were given, or all that are running now. */
struct targets {
    struct cli_args args;
    json_t *vms; /* owned; what the operands are borrowed from */
};

static void targets_done(struct targets *t)
{
    if (t->vms) {
        free(t->args.operands);
    }
    json_decref(t->vms);
}

static int find_running(struct cli *cli, struct targets *t, struct err *err)
{
    _cleanup_client_ struct client *c = NULL;
    const json_t *vm;
    size_t i;

    if (cli_connect(cli, true, &c, err) < 0 ||
        pages_list_vms(c, false, "state|created_at", &t->vms, err) < 0) {
        return -1;
    }
    t->args.operands = x_calloc(json_array_size(t->vms) + 1, sizeof(char *));
    json_array_foreach (t->vms, i, vm) {
        if (str_eq(json_str(vm, "state", ""), "running")) {
            t->args.operands[t->args.operand_count++] = (char *)json_str(vm, "id", "");
        }
    }
    return 0;
}

static int round_of(struct cli *cli, const struct cli_args *args, json_t **ret_rows)
{
    _cleanup_(targets_done) struct targets t = {.args = *args};
    struct err err;

    if (args->operand_count == 0 && find_running(cli, &t, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    return each_operand(cli, &t.args, &(struct each){"vm.stats", "vm", "measure"}, ret_rows);
}

/* The first round is quick, the others take as long as they are to be apart. */
static int watch(struct cli *cli, const struct cli_args *args)
{
    bool in_place = cli->stdout_tty && cli->stderr_live && cli->format == FORMAT_TABLE;
    const struct cli_flag *flag = cli_flag_find(args->verb->flags, "interval", strlen("interval"));
    struct cli_given *given = x_calloc(args->given_count + 1, sizeof(*given));
    struct cli_args again = *args;
    int status = 0;

    memcpy(given, args->given, args->given_count * sizeof(*given));
    again.given = given;
    if (!cli_arg(args, "interval")) {
        given[again.given_count++] = (struct cli_given){.flag = flag, .value = "2s"};
    }
    for (const struct cli_args *round = args; status == 0; round = &again) {
        _cleanup_json_ json_t *rows = NULL;

        status = round_of(cli, round, &rows);
        if (rows && (status == 0 || json_array_size(rows) > 0)) {
            print_stats(cli, rows, in_place);
        }
        /* One that ended meanwhile is no reason to end but when it was asked for. */
        status = args->operand_count == 0 && rows ? 0 : status;
        status = ferror(stdout) ? EXIT_FAILED : status;
        if (rows && args->operand_count == 0 && json_array_size(rows) == 0) {
            break; /* none is running */
        }
    }
    free(given);
    return status;
}

int cmd_vm_stats(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *rows = NULL;
    int status;

    if (cli_arg(args, "watch")) {
        return watch(cli, args);
    }
    status = round_of(cli, args, &rows);
    if (rows && (status == 0 || json_array_size(rows) > 0)) {
        print_stats(cli, rows, false);
    }
    return status;
}

/* Processes ------------------------------------------------------------------------------------*/

static char *cell_pid(const json_t *row)
{
    return x_asprintf("%lld", json_int(row, "pid", 0));
}

static char *cell_user(const json_t *row)
{
    return bytes(row, "user");
}

static char *cell_rss(const json_t *row)
{
    return size(row, "rss_bytes");
}

static char *cell_command(const json_t *row)
{
    return bytes(row, "command");
}

/* What a guest says of itself: the objects of a list, of which `quiet` prints that member. */
static int list_of_guest(struct cli *cli, const struct cli_args *args, const char *method,
                         const char *list, const char *quiet, const struct out_column *columns,
                         size_t column_count)
{
    _cleanup_json_ json_t *params = json_object(), *answer = NULL;
    const char *ref = args->operands[0];
    _cleanup_free_ char *verb = x_asprintf("list the %s of", list);
    struct err err;
    long long more;

    if (cli_args_params(args, method, params, &err) < 0) {
        return out_usage(cli, args->verb->path, &err);
    }
    json_put(params, "vm", json_bytes_new(ref, strlen(ref)));
    if (cli_call(cli, method, STEAL_PTR(params), &answer, &err) < 0) {
        return each_fail(cli, NULL, verb, ref, &err);
    }
    more = json_int(answer, "more", 0);
    if (more > 0 && !cli->quiet) {
        (void)fprintf(stderr, "banger: and %lld more %s\n", more, list);
    }
    if (cli->quiet) {
        const json_t *item;
        size_t i;

        json_array_foreach (json_object_get(answer, list), i, item) {
            (void)printf("%lld\n", json_int(item, quiet, 0));
        }
        return 0;
    }
    return out_list(cli, json_object_get(answer, list), columns, column_count);
}

int cmd_vm_top(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"PID", cell_pid, OUT_RIGHT},
        {"USER", cell_user, 0},
        {"STATE", cell_state, 0},
        {"CPU", cell_cpu, OUT_RIGHT},
        {"CPU TIME", cell_cpu_time, OUT_RIGHT},
        {"MEM", cell_rss, OUT_RIGHT},
        {"COMMAND", cell_command, 0},
    };

    return list_of_guest(cli, args, "vm.top", "processes", "pid", columns, ARRAY_LEN(columns));
}

/* Ports ----------------------------------------------------------------------------------------*/

static char *cell_port(const json_t *row)
{
    return x_asprintf("%lld", json_int(row, "port", 0));
}

static char *cell_protocol(const json_t *row)
{
    return x_strdup(json_str(row, "protocol", ""));
}

static char *cell_address(const json_t *row)
{
    return x_strdup(json_str(row, "address", ""));
}

static char *cell_owner(const json_t *row)
{
    return json_is_integer(json_object_get(row, "pid")) ? cell_pid(row) : x_strdup("");
}

int cmd_vm_ports(struct cli *cli, const struct cli_args *args)
{
    static const struct out_column columns[] = {
        {"PORT", cell_port, OUT_RIGHT}, {"PROTOCOL", cell_protocol, 0},
        {"ADDRESS", cell_address, 0},   {"PID", cell_owner, OUT_RIGHT},
        {"USER", cell_user, 0},         {"COMMAND", cell_command, 0},
    };

    return list_of_guest(cli, args, "vm.ports", "listeners", "port", columns, ARRAY_LEN(columns));
}
