/* Help, printed from the tables. */
#include "base/str.h"
#include "cli/cli.h"
#include "codec/api.h"

#include <stdio.h>
#include <string.h>

#define WIDTH 80
#define HELP_INDENT 24 /* behind the longest "vm restart | restart" */

/* Prints text wrapped, its lines beginning at column indent; the cursor is at column at. */
static void wrap(FILE *out, const char *text, int indent, int at)
{
    (void)fprintf(out, "%*s", indent > at ? indent - at : 0, "");
    at = indent > at ? indent : at;
    for (bool first = true; *text; first = false) {
        int len = (int)strcspn(text, " ");

        if (!first && at + 1 + len > WIDTH) {
            (void)fprintf(out, "\n%*s", indent, "");
            at = indent;
            first = true;
        }
        (void)fprintf(out, "%s%.*s", first ? "" : " ", len, text);
        at += len + !first;
        text += len;
        text += strspn(text, " ");
    }
    (void)fputc('\n', out);
}

const char *cli_flag_doc(const struct cli_flag *flag)
{
    const struct api_param *param = cli_flag_param(flag);

    return flag->doc ? flag->doc : param && param->doc ? param->doc : "";
}

char *cli_flag_default(const struct cli_flag *flag)
{
    const struct api_param *param = cli_flag_param(flag);
    uint64_t v = 0;

    if (!param || !param->fallback || !flag->value) {
        return NULL;
    }
    if (flag->unit == UNIT_NONE || str_to_u64(param->fallback, INT64_MAX, &v) < 0) {
        return x_strdup(param->fallback);
    }
    /* 0 is "never" or "as long as it takes", which the text explains. */
    return v > 0 ? cli_number_text(flag->unit, (long long)v) : x_strdup("0");
}

/* "a|b|c" as " One of a, b, c.", or nothing. */
static char *choices_text(const char *choices)
{
    _cleanup_free_ char *spaced = NULL;
    size_t n = 0;

    if (!choices) {
        return x_strdup("");
    }
    spaced = x_calloc(2 * strlen(choices) + 1, 1);
    for (const char *c = choices; *c; c++) {
        spaced[n++] = *c;
        if (*c == '|') {
            spaced[n - 1] = ',';
            spaced[n++] = ' ';
        }
    }
    return x_asprintf(" One of %s.", spaced);
}

char *cli_flag_text(const struct cli_flag *flag)
{
    _cleanup_free_ char *fallback = cli_flag_default(flag);
    _cleanup_free_ char *choices = choices_text(cli_flag_choices(flag));

    return x_asprintf("%s%s%s%s%s", cli_flag_doc(flag), choices, fallback ? " Default: " : "",
                      fallback ? fallback : "", fallback ? "." : "");
}

static void put_flag(FILE *out, const struct cli_flag *flag)
{
    _cleanup_free_ char *text = cli_flag_text(flag);
    char letter[5] = "    ";
    int at;

    if (flag->letter) {
        (void)snprintf(letter, sizeof(letter), "-%c, ", flag->letter);
    }
    at = fprintf(out, "  %s--%s%s%s", letter, flag->name, flag->value ? " " : "",
                 flag->value ? flag->value : "");
    if (at > 25) {
        (void)fputc('\n', out);
        at = 0;
    }
    wrap(out, text, 27, at);
}

static void put_flags(FILE *out, const char *title, const struct cli_flag *flags)
{
    if (!flags) {
        return;
    }
    (void)fprintf(out, "\n%s:\n", title);
    for (const struct cli_flag *f = flags; f->name; f++) {
        put_flag(out, f);
    }
}

void cli_help_verb(FILE *out, const struct cli_verb *verb)
{
    bool own = verb->flags != NULL;

    (void)fprintf(out, "Usage: banger %s%s%s%s\n", verb->path, own ? " [FLAGS]" : "",
                  verb->operands[0] ? " " : "", verb->operands);
    if (verb->alias) {
        (void)fprintf(out, "       banger %s%s%s%s\n", verb->alias, own ? " [FLAGS]" : "",
                      verb->operands[0] ? " " : "", verb->operands);
    }
    if (verb->doc) {
        (void)fputc('\n', out);
        wrap(out, verb->doc, 0, 0);
    }
    if (verb->more) {
        wrap(out, verb->more, 0, 0);
    }
    put_flags(out, "Flags", verb->flags);
    put_flags(out, "Flags of every command", cli_global_flags);
}

static void put_verb(FILE *out, const struct cli_verb *v)
{
    _cleanup_free_ char *name =
        v->alias ? x_asprintf("%s | %s", v->path, v->alias) : x_strdup(v->path);
    int at = fprintf(out, "  %s", name);

    wrap(out, v->doc, HELP_INDENT, at);
}

void cli_help_noun(FILE *out, const char *noun)
{
    size_t len = strlen(noun);

    (void)fprintf(out, "Usage: banger %s COMMAND ...\n\nCommands:\n", noun);
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        if (v->doc && strncmp(v->path, noun, len) == 0 && v->path[len] == ' ') {
            put_verb(out, v);
        }
    }
    (void)fprintf(out, "\nlist is also ls, show inspect, set update, delete rm and remove.\n");
}

void cli_help_all(FILE *out)
{
    (void)fprintf(out, "Usage: banger COMMAND ...\n\n"
                       "Runs commands in disposable virtual machines, such as:\n"
                       "  banger run --rm -- uname -a\n\nCommands:\n");
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        if (v->doc) {
            put_verb(out, v);
        }
    }
    put_flags(out, "Flags of every command", cli_global_flags);
    (void)fprintf(out, "\nbanger COMMAND --help shows a command's flags.\n"
                       "A VM is named by its name, its id or a unique beginning of its id.\n");
}
