/* The manual page banger(1) as scdoc(5) source, from the table of verbs. */
#include "base/str.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const char head[] =
    "banger(1)\n"
    "\n"
    "# NAME\n"
    "\n"
    "banger - run commands in disposable virtual machines\n"
    "\n"
    "# SYNOPSIS\n"
    "\n"
    "*banger* [_FLAGS_] _COMMAND_ ...\n"
    "\n"
    "# DESCRIPTION\n"
    "\n"
    "*banger* makes small virtual machines (microVMs) from images and runs commands in them, with\n"
    "their standard streams, signals and exit status as if they ran here. The work is done by\n"
    "*bangerd*(8), which is started when it is needed.\n"
    "\n"
    "A VM is named by its name, its id or a unique beginning of its id. Commands on several VMs\n"
    "proceed past those that fail; the exit status tells.\n"
    "\n"
    "Flags may stand before, between and behind the other arguments, up to *--* or the command that\n"
    "is to run in a guest. *--flag=value* is the same as *--flag value*.\n";

static const char tail[] =
    "\n"
    "# OUTPUT\n"
    "\n"
    "Results go to standard output; progress, notes and errors to standard error. An error is\n"
    "\"banger: what: why\", and a line \"hint: what to do\" where there is something to do.\n"
    "\n"
    "With *--format json* a listing is an array and one thing is an object; *jsonl* prints one\n"
    "object a line. Times are RFC 3339 in UTC, sizes are bytes unless the key says a unit. The keys\n"
    "are those of docs/PROTOCOL.md and stay.\n"
    "\n"
    "Tables are for people. On a terminal, or where *COLUMNS* is set, they fit its width: long cells\n"
    "are cut, and columns at the right are left out, but ids and names never are. Control\n"
    "characters of a guest are printed as \\\\xNN.\n"
    "\n"
    "# EXIT STATUS\n"
    "\n"
    "*0*\n"
    "\tDone.\n"
    "\n"
    "*1*\n"
    "\tFailed, for one of several VMs at least.\n"
    "\n"
    "*2*\n"
    "\tWrong usage.\n"
    "\n"
    "*banger run*, *exec* and *session wait* end with the command's own status, and with\n"
    "\n"
    "*128+n*\n"
    "\twhen signal n killed it,\n"
    "\n"
    "*125*\n"
    "\twhen banger failed,\n"
    "\n"
    "*126*\n"
    "\twhen the command cannot be executed,\n"
    "\n"
    "*127*\n"
    "\twhen it was not found.\n"
    "\n"
    "# ENVIRONMENT\n"
    "\n"
    "*BANGER_SOCKET*\n"
    "\tThe daemon's socket, as *--socket*.\n"
    "\n"
    "*BANGER_CONFIG*, *BANGER_STATE_DIR*, *BANGER_CACHE_DIR*, *BANGER_RUNTIME_DIR*\n"
    "\tInstead of the paths below, for a daemon that is started and for finding it.\n"
    "\n"
    "*COLUMNS*\n"
    "\tWidth of tables, instead of the terminal's.\n"
    "\n"
    "*NO_COLOR*\n"
    "\tNo cursor movement, also on a terminal.\n"
    "\n"
    "# FILES\n"
    "\n"
    "Of root:\n"
    "\n"
    "\t/etc/banger/config.toml, /var/lib/banger, /var/cache/banger, /run/banger/banger.sock\n"
    "\n"
    "Of others:\n"
    "\n"
    "\t~/.config/banger/config.toml, ~/.local/state/banger, ~/.cache/banger,\n"
    "\t$XDG_RUNTIME_DIR/banger/banger.sock, or else /tmp/banger-UID/banger.sock\n"
    "\n"
    "With *sudo*(8) they are those of the user who called it.\n"
    "\n"
    "# EXAMPLES\n"
    "\n"
    "A command in a VM that is gone afterwards:\n"
    "\n"
    "\tbanger run --rm -- uname -a\n"
    "\n"
    "A VM that stays, and a command in it:\n"
    "\n"
    "\tbanger vm create --name box --memory 1G++\n"
    "banger exec box -- df -h\n"
    "\n"
    "# SEE ALSO\n"
    "\n"
    "*bangerd*(8), *banger.toml*(5)\n";

/* Text in which nothing is markup. */
static void put_text(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (strchr("\\*_`#[]|<>.-+;", *c)) {
            (void)putchar('\\');
        }
        (void)putchar(*c);
    }
}

static void put_bold(const char *before, const char *text)
{
    (void)putchar('*');
    put_text(before);
    put_text(text);
    (void)putchar('*');
}

static void put_flags(const struct cli_flag *flags)
{
    for (; flags && flags->name; flags++) {
        const char letter[] = {flags->letter, '\0'};
        _cleanup_free_ char *text = cli_flag_text(flags);

        if (flags->letter) {
            put_bold("-", letter);
            (void)fputs(", ", stdout);
        }
        put_bold("--", flags->name);
        if (flags->value) {
            (void)putchar(' ');
            put_text(flags->value);
        }
        (void)fputs("\n\t", stdout);
        put_text(text);
        (void)fputs("\n\n", stdout);
    }
}

static void put_usage(const char *path, const struct cli_verb *verb)
{
    (void)fputs("*banger ", stdout);
    put_text(path);
    (void)printf("*%s ", verb->flags ? " \\[FLAGS\\]" : "");
    put_text(verb->operands);
}

static void put_verb(const struct cli_verb *verb)
{
    (void)fputs("## ", stdout);
    put_text(verb->path);
    (void)fputs("\n\n", stdout);
    put_usage(verb->path, verb);
    if (verb->alias) {
        (void)fputs("++\n", stdout);
        put_usage(verb->alias, verb);
    }
    (void)fputs("\n\n", stdout);
    put_text(verb->doc);
    if (verb->more) {
        (void)putchar(' ');
        put_text(verb->more);
    }
    (void)fputs("\n\n", stdout);
    put_flags(verb->flags);
}

int cmd_man(struct cli *cli, const struct cli_args *args)
{
    (void)cli;
    (void)args;
    (void)fputs(head, stdout);
    (void)fputs(
        "\nBehind a noun, *list* may be written *ls*, *show* as *inspect*, *delete* as *rm* or "
        "*remove*, and *set* as *update*.\n\n# FLAGS OF EVERY COMMAND\n\n",
        stdout);
    put_flags(cli_global_flags);
    (void)fputs("# COMMANDS\n\n", stdout);
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        if (v->doc) {
            put_verb(v);
        }
    }
    (void)fputs(tail + 1, stdout);
    return 0;
}
