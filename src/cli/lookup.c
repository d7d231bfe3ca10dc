/* Finding things in the table of verbs, by exact words and by what was probably meant. */
#include "cli/cli.h"

#include "base/str.h"
#include "codec/api.h"

#include <string.h>

#define NAMES_MAX 256 /* more words than all commands have */

/* Other words for a verb behind any noun. */
static const char *const aliases[][2] = {
    {"ls", "list"}, {"inspect", "show"}, {"rm", "delete"}, {"remove", "delete"}, {"update", "set"},
};

/* The canonical name of a verb behind a noun. */
static const char *canonical(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (str_eq(word, aliases[i][0])) {
            return aliases[i][1];
        }
    }
    return word;
}

const char *cli_verb_alias(const char *word, size_t index)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (str_eq(word, aliases[i][1]) && index-- == 0) {
            return aliases[i][0];
        }
    }
    return NULL;
}

/* What stands behind the noun, or NULL when the verb is not one of its. */
static const char *behind_noun(const struct cli_verb *verb, const char *noun)
{
    size_t len = strlen(noun);

    return strncmp(verb->path, noun, len) == 0 && verb->path[len] == ' ' ? verb->path + len + 1
                                                                         : NULL;
}

bool cli_is_noun(const char *word)
{
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        if (behind_noun(v, word)) {
            return true;
        }
    }
    return false;
}

const struct cli_verb *cli_verb_find(const char *first, const char *second)
{
    _cleanup_free_ char *path =
        second ? x_asprintf("%s %s", first, canonical(second)) : x_strdup(first);

    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        if (str_eq(v->path, path) || (!second && str_eq(v->alias, path))) {
            return v;
        }
    }
    return NULL;
}

/* Flags and their values ------------------------------------------------------------------------*/

const struct cli_flag *cli_flag_find(const struct cli_flag *flags, const char *name, size_t len)
{
    for (; flags && flags->name; flags++) {
        if (strncmp(flags->name, name, len) == 0 && flags->name[len] == '\0') {
            return flags;
        }
    }
    return NULL;
}

const struct cli_flag *cli_flag_by_letter(const struct cli_flag *flags, char letter)
{
    for (; flags && flags->name; flags++) {
        if (flags->letter && flags->letter == letter) {
            return flags;
        }
    }
    return NULL;
}

const struct api_param *cli_flag_param(const struct cli_flag *flag)
{
    const struct api_method *m = flag->method ? api_method_find(flag->method) : NULL;

    return m ? api_param_find(m, flag->param) : NULL;
}

const char *cli_flag_choices(const struct cli_flag *flag)
{
    const struct api_param *param = cli_flag_param(flag);

    return flag->choices ? flag->choices : param ? param->choices : NULL;
}

enum cli_kind cli_kind_of(const char *word)
{
    static const struct {
        const char *word;
        enum cli_kind kind;
    } words[] = {
        {"VM", KIND_VM},
        {"SESSION", KIND_SESSION},
        {"OP", KIND_OP},
        {"IMAGE", KIND_IMAGE},
        {"KERNEL", KIND_KERNEL},
        {"TEMPLATE", KIND_TEMPLATE},
        {"PATH", KIND_FILE},
        {"FILE", KIND_FILE},
        {"DIRECTORY", KIND_DIR},
        {"SRC", KIND_COPY},
        {"DST", KIND_COPY},
        {"COMMAND", KIND_COMMAND},
        /* Nothing that we could list; DIR and USER are in a guest. */
        {"DIR", KIND_TEXT},
        {"USER", KIND_TEXT},
        {"NAME", KIND_TEXT},
        {"NAME=VALUE", KIND_TEXT},
        {"N", KIND_TEXT},
        {"SIZE", KIND_TEXT},
        {"TIME", KIND_TEXT},
        {"WORD", KIND_TEXT},
        {"TEXT", KIND_TEXT},
        {"KEY", KIND_TEXT},
        {"KEY=PATTERN", KIND_TEXT},
        {"SIGNAL", KIND_TEXT},
        {"CHECK", KIND_TEXT},
        {"POLICY", KIND_TEXT},
        {"FORWARD", KIND_TEXT},
    };
    size_t len = strcspn(word, ".");

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strncmp(words[i].word, word, len) == 0 && words[i].word[len] == '\0') {
            return words[i].kind;
        }
    }
    return strchr(word, '|') ? KIND_CHOICE : KIND_UNKNOWN;
}

char *cli_operand_word(const struct cli_verb *verb, size_t index)
{
    _cleanup_free_ char *copy = x_strdup(verb->operands);
    char *rest = copy, *word;
    const char *last = NULL;
    bool repeats = false;

    while ((word = strsep(&rest, " []"))) {
        if (!*word || str_eq(word, "--")) {
            continue;
        }
        if (index-- == 0) {
            return x_strdup(word);
        }
        repeats |= strstr(word, "...") != NULL;
        last = word;
    }
    /* SRC... DST: the one behind may be either. */
    return repeats ? x_strdup(last) : NULL;
}

/* What was meant --------------------------------------------------------------------------------*/

struct names {
    char *names[NAMES_MAX];
    size_t count;
};

static void names_done(struct names *n)
{
    for (size_t i = 0; i < n->count; i++) {
        free(n->names[i]);
    }
}
#define _cleanup_names_ _cleanup_(names_done)

static void add_name(struct names *n, const char *name, size_t len)
{
    if (name && n->count < NAMES_MAX) {
        n->names[n->count++] = x_strndup(name, len);
    }
}

static const char *nearest(const struct names *n, const char *word)
{
    return str_nearest(word, (const char *const *)n->names, n->count);
}

/* A verb of the noun, by its canonical or another name. */
static char *suggest_behind(const char *noun, const char *word)
{
    _cleanup_names_ struct names names = {.count = 0};
    const char *near;

    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        const char *name = v->doc ? behind_noun(v, noun) : NULL;

        add_name(&names, name, SIZE_MAX);
        for (size_t i = 0; name && cli_verb_alias(name, i); i++) {
            add_name(&names, cli_verb_alias(name, i), SIZE_MAX);
        }
    }
    near = nearest(&names, word);
    return near ? x_asprintf("%s %s", noun, near) : NULL;
}

/* "create": a verb whose noun was left out. VMs come first in the table. */
static const char *suggest_noun_of(const char *word)
{
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        const char *space = strchr(v->path, ' ');

        if (v->doc && space && str_eq(space + 1, canonical(word))) {
            return v->path;
        }
    }
    return NULL;
}

/* A noun, a verb without one, or a short form. */
static char *suggest_first(const char *word)
{
    _cleanup_names_ struct names names = {.count = 0};

    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        if (v->doc) {
            add_name(&names, v->path, strcspn(v->path, " "));
            add_name(&names, v->alias, SIZE_MAX);
        }
    }
    return x_strdup(nearest(&names, word));
}

char *cli_suggest(const char *first, const char *second)
{
    _cleanup_free_ char *near = NULL;
    char *both = NULL;

    if (cli_is_noun(first)) {
        return second ? suggest_behind(first, second) : NULL;
    }
    near = x_strdup(suggest_noun_of(first));
    if (!near) {
        near = suggest_first(first);
    }
    if (near && second && cli_is_noun(near)) {
        both = cli_verb_find(near, second) ? x_asprintf("%s %s", near, second)
                                           : suggest_behind(near, second);
    }
    return both ? both : STEAL_PTR(near);
}

int cli_hint_choice(struct err *err, const char *choices, const char *value)
{
    _cleanup_names_ struct names names = {.count = 0};
    const char *near;

    for (const char *at = choices; *at;) {
        size_t len = strcspn(at, "|");

        add_name(&names, at, len);
        at += len + (at[len] == '|');
    }
    near = nearest(&names, value);
    return near ? err_hint(err, "did you mean '%s'?", near) : -1;
}
