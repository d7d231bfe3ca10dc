/* doctor: what the checks found, for people or programs. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/findings.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

static json_t *find(const json_t *findings, const char *id)
{
    json_t *f;
    size_t i;

    json_array_foreach ((json_t *)findings, i, f) {
        if (str_eq(json_str(f, "id", ""), id)) {
            return f;
        }
    }
    return NULL;
}

static int no_such_check(const struct cli *cli, const json_t *findings, const char *id)
{
    size_t count = json_array_size(findings);
    _cleanup_free_ const char **ids = x_calloc(count + 1, sizeof(*ids));
    _cleanup_free_ char *safe = str_escape(id, strlen(id), 64);
    const char *near;
    struct err err;

    for (size_t i = 0; i < count; i++) {
        ids[i] = json_str(json_array_get(findings, i), "id", "");
    }
    near = str_nearest(id, ids, count);
    err_set(&err, ERR_INVALID, "there is no check '%s'", safe);
    if (near) {
        err_hint(&err, "did you mean '%s'?", near);
    } else {
        err_hint(&err, "all of them: banger doctor -q");
    }
    return out_usage(cli, "doctor", &err);
}

/* Those that are named, or all, each once. A status, or -1: go on. */
static int choose(const struct cli *cli, const struct cli_args *args, const json_t *findings,
                  json_t *chosen)
{
    if (args->operand_count == 0) {
        json_array_extend(chosen, (json_t *)findings);
    }
    for (size_t i = 0; i < args->operand_count; i++) {
        json_t *f = find(findings, args->operands[i]);

        if (!f) {
            return no_such_check(cli, findings, args->operands[i]);
        }
        if (!find(chosen, args->operands[i])) {
            json_array_append(chosen, f);
        }
    }
    return -1;
}

/* Findings may quote files. */
static void put_line(const char *label, const char *text)
{
    _cleanup_free_ char *safe = str_escape(text, strlen(text), strlen(text));

    (void)printf("      %s: %s\n", label, safe);
}

static void put_finding(const json_t *f, bool verbose)
{
    const char *status = json_str(f, "status", ""), *summary = json_str(f, "summary", "");
    const char *id = json_str(f, "id", ""), *evidence = json_str(f, "evidence", NULL),
               *fix = json_str(f, "fix", NULL);
    _cleanup_free_ char *safe = str_escape(summary, strlen(summary), strlen(summary));
    bool passes = str_eq(status, "pass");

    (void)printf("%-5s %-17s %s\n", status ? status : "", id ? id : "", safe);
    if (evidence && (verbose || !passes)) {
        put_line("seen", evidence);
    }
    if (fix && !passes) {
        put_line("fix", fix);
    }
}

static unsigned count(const json_t *findings, const char *status)
{
    unsigned n = 0;
    json_t *f;
    size_t i;

    json_array_foreach ((json_t *)findings, i, f) {
        n += str_eq(json_str(f, "status", ""), status);
    }
    return n;
}

static void put_findings(const json_t *findings, bool verbose)
{
    json_t *f;
    size_t i;

    json_array_foreach ((json_t *)findings, i, f) {
        put_finding(f, verbose);
    }
    (void)printf("%u passed, %u warned, %u failed\n", count(findings, "pass"),
                 count(findings, "warn"), count(findings, "fail"));
}

int cmd_doctor(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *findings = NULL, *chosen = json_array();
    struct err err;
    int status;

    if (cli_findings(cli, &findings, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    status = choose(cli, args, findings, chosen);
    if (status >= 0) {
        return status;
    }
    if (cli->format == FORMAT_TABLE && !cli->quiet) {
        put_findings(chosen, cli_arg(args, "verbose") != NULL);
    } else {
        (void)out_list(cli, chosen, NULL, 0);
    }
    return count(chosen, "fail") > 0 ? EXIT_FAILED : 0;
}
