/* The table of commands for programs: completion of editors, tests, documents. */
#include "base/str.h"
#include "cli/cli.h"
#include "codec/api.h"

#include <string.h>

static json_t *choices_json(const char *choices)
{
    json_t *all = json_array();

    for (const char *at = choices; at && *at;) {
        size_t len = strcspn(at, "|");

        json_array_append_new(all, json_stringn(at, len));
        at += len + (at[len] == '|');
    }
    return all;
}

static json_t *flag_json(const struct cli_flag *flag)
{
    char letter[2] = {flag->letter, '\0'};
    _cleanup_free_ char *fallback = cli_flag_default(flag);
    json_t *o = json_object();

    json_put_str(o, "name", flag->name);
    json_put_str(o, "letter", letter[0] ? letter : NULL);
    json_put_str(o, "value", flag->value);
    json_put(o, "choices", choices_json(cli_flag_choices(flag)));
    json_put_str(o, "default", fallback);
    json_put_str(o, "doc", cli_flag_doc(flag));
    return o;
}

static json_t *flags_json(const struct cli_flag *flags)
{
    json_t *all = json_array();

    for (; flags && flags->name; flags++) {
        json_array_append_new(all, flag_json(flags));
    }
    return all;
}

/* The short form, and the other words for the verb behind its noun. */
static json_t *aliases_json(const struct cli_verb *verb)
{
    const char *space = strchr(verb->path, ' ');
    json_t *all = json_array();

    if (verb->alias) {
        json_array_append_new(all, json_string(verb->alias));
    }
    for (size_t i = 0; space && cli_verb_alias(space + 1, i); i++) {
        _cleanup_free_ char *path = x_asprintf("%.*s %s", (int)(space - verb->path), verb->path,
                                               cli_verb_alias(space + 1, i));

        json_array_append_new(all, json_string(path));
    }
    return all;
}

json_t *cli_help_verb_json(const struct cli_verb *verb)
{
    json_t *o = json_object();

    json_put_str(o, "path", verb->path);
    json_put(o, "aliases", aliases_json(verb));
    json_put_str(o, "operands", verb->operands);
    json_put(o, "flags", flags_json(verb->flags));
    json_put_str(o, "doc", verb->doc);
    json_put_str(o, "more", verb->more);
    json_put_bool(o, "hidden", !verb->doc);
    return o;
}

json_t *cli_help_json(const char *noun)
{
    size_t len = noun ? strlen(noun) : 0;
    json_t *o = json_object(), *commands = json_array();

    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        if (!noun || (strncmp(v->path, noun, len) == 0 && v->path[len] == ' ')) {
            json_array_append_new(commands, cli_help_verb_json(v));
        }
    }
    json_put(o, "commands", commands);
    json_put(o, "flags", flags_json(cli_global_flags));
    return o;
}
