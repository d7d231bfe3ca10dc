/* Commands that need no daemon. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "codec/api.h"
#include "codec/config.h"
#include "version.h"

#include <stdio.h>
#include <string.h>

int cmd_version(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *object = NULL;

    (void)args;
    if (cli->format == FORMAT_TABLE) {
        (void)puts("banger " BANGER_VERSION);
        return 0;
    }
    object = json_object();
    json_put_str(object, "version", BANGER_VERSION);
    out_json(cli, object);
    return 0;
}

/* The commands of a noun, or all when it is NULL. */
static void print_help_json(const struct cli *cli, const struct cli_verb *verb, const char *noun)
{
    _cleanup_json_ json_t *object = verb ? cli_help_verb_json(verb) : cli_help_json(noun);

    out_json(cli, object);
}

static int no_such_command(struct cli *cli, const char *first, const char *second)
{
    _cleanup_free_ char *safe = str_escape(first, strlen(first), 64);
    _cleanup_free_ char *safe2 = second ? str_escape(second, strlen(second), 64) : NULL;
    _cleanup_free_ char *near = cli_suggest(first, second);
    struct err err;

    err_set(&err, ERR_INVALID, "unknown command '%s%s%s'", safe, second ? " " : "",
            safe2 ? safe2 : "");
    if (near) {
        err_hint(&err, "did you mean 'banger help %s'?", near);
    }
    return out_usage(cli, NULL, &err);
}

int cmd_help(struct cli *cli, const struct cli_args *args)
{
    const char *first = args->operand_count > 0 ? args->operands[0] : NULL;
    const char *second = args->operand_count > 1 ? args->operands[1] : NULL;
    const struct cli_verb *verb = first ? cli_verb_find(first, second) : NULL;

    if (first && !verb && (second || !cli_is_noun(first))) {
        return no_such_command(cli, first, second);
    }
    if (cli->format != FORMAT_TABLE) {
        print_help_json(cli, verb, first);
    } else if (verb) {
        cli_help_verb(stdout, verb);
    } else if (first) {
        cli_help_noun(stdout, first);
    } else {
        cli_help_all(stdout);
    }
    return 0;
}

int cmd_protocol(struct cli *cli, const struct cli_args *args)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *document = NULL;

    (void)args;
    if (cli->format == FORMAT_TABLE) {
        text = api_markdown();
        (void)fputs(text, stdout);
    } else {
        document = api_openrpc(BANGER_VERSION);
        out_json(cli, document);
    }
    return 0;
}

int cmd_internal_config(struct cli *cli, const struct cli_args *args)
{
    _cleanup_free_ char *text = config_markdown();

    (void)cli;
    (void)args;
    (void)fputs(text, stdout);
    return 0;
}
