#include "cli/cli.h"

#include "base/str.h"
#include "codec/api.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define DAY_MS 86400000LL

const char *cli_arg(const struct cli_args *args, const char *flag)
{
    const char *value = NULL;

    for (size_t i = 0; i < args->given_count; i++) {
        if (str_eq(args->given[i].flag->name, flag)) {
            value = args->given[i].value ? args->given[i].value : "";
        }
    }
    return value;
}

/* Words to flags --------------------------------------------------------------------------------*/

struct parser {
    struct cli *cli;
    char **next; /* the word to look at */
    struct cli_args *args;
    struct err *err;
};

static const struct cli_flag *verb_flags(const struct parser *p)
{
    return p->args->verb ? p->args->verb->flags : NULL;
}

/* The flag of a verb or of all commands that was meant by "--nmae" or "-name". */
static const char *near_flag(const struct parser *p, const char *word)
{
    const struct cli_flag *sets[] = {verb_flags(p), cli_global_flags};
    _cleanup_free_ char *name = x_strdup(word + strspn(word, "-"));
    const char *names[64];
    size_t n = 0;

    name[strcspn(name, "=")] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        for (const struct cli_flag *f = sets[i]; f && f->name && n < ARRAY_LEN(names); f++) {
            names[n++] = f->name;
        }
    }
    return strlen(name) > 1 ? str_nearest(name, names, n) : NULL;
}

static int unknown_flag(struct parser *p, const char *word)
{
    const char *near = near_flag(p, word);
    _cleanup_free_ char *safe = str_escape(word, strlen(word), 64);

    err_set(p->err, ERR_INVALID, "unknown flag '%s'", safe);
    if (near) {
        return err_hint(p->err, "did you mean '--%s'?", near);
    }
    return err_hint(p->err, "see: banger%s%s --help", p->args->verb ? " " : "",
                    p->args->verb ? p->args->verb->path : "");
}

static int set_global(struct parser *p, const struct cli_flag *flag, const char *value)
{
    if (str_eq(flag->name, "format")) {
        if (str_eq(value, "table")) {
            p->cli->format = FORMAT_TABLE;
        } else if (str_eq(value, "json")) {
            p->cli->format = FORMAT_JSON;
        } else if (str_eq(value, "jsonl")) {
            p->cli->format = FORMAT_JSONL;
        } else {
            _cleanup_free_ char *safe = str_escape(value, strlen(value), 64);

            err_set(p->err, ERR_INVALID, "--format must be one of %s, not '%s'", flag->choices,
                    safe);
            return cli_hint_choice(p->err, flag->choices, value);
        }
    } else if (str_eq(flag->name, "socket")) {
        p->cli->socket = value;
    } else if (str_eq(flag->name, "quiet")) {
        p->cli->quiet = true;
    } else if (str_eq(flag->name, "debug")) {
        p->cli->debug = true;
    } else {
        p->args->help = true;
    }
    return 0;
}

static int take_flag(struct parser *p, const struct cli_flag *flag, const char *value)
{
    struct cli_args *a = p->args;

    if (flag->value && !value) {
        value = *p->next;
        if (!value) {
            return err_set(p->err, ERR_INVALID, "--%s wants a value: --%s %s", flag->name,
                           flag->name, flag->value);
        }
        p->next++;
    }
    if (cli_flag_find(cli_global_flags, flag->name, strlen(flag->name)) == flag) {
        return set_global(p, flag, value);
    }
    a->given[a->given_count++] = (struct cli_given){flag, value};
    return 0;
}

static int take_long(struct parser *p, const char *word)
{
    const char *name = word + 2;
    size_t len = strcspn(name, "=");
    const struct cli_flag *flag = cli_flag_find(verb_flags(p), name, len);

    if (!flag) {
        flag = cli_flag_find(cli_global_flags, name, len);
    }
    if (!flag) {
        return unknown_flag(p, word);
    }
    if (name[len] == '=' && !flag->value) {
        return err_set(p->err, ERR_INVALID, "--%s takes no value", flag->name);
    }
    return take_flag(p, flag, name[len] == '=' ? name + len + 1 : NULL);
}

/* -x, -xyz, -xVALUE */
static int take_short(struct parser *p, const char *word)
{
    for (const char *c = word + 1; *c; c++) {
        const struct cli_flag *flag = cli_flag_by_letter(verb_flags(p), *c);

        if (!flag) {
            flag = cli_flag_by_letter(cli_global_flags, *c);
        }
        if (!flag) {
            return unknown_flag(p, word);
        }
        if (flag->value) {
            return take_flag(p, flag, c[1] ? c + 1 : NULL);
        }
        if (take_flag(p, flag, NULL) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool is_flag(const char *word)
{
    return word[0] == '-' && word[1] != '\0';
}

static int take_flag_word(struct parser *p)
{
    const char *word = *p->next++;

    return str_starts_with(word, "--") ? take_long(p, word) : take_short(p, word);
}

/* Words to a verb -------------------------------------------------------------------------------*/

static int unknown_verb(struct parser *p, const char *first, const char *second)
{
    /* What follows helps to tell what a misspelt noun was meant to be. */
    const char *next = second ? second : *p->next && !is_flag(*p->next) ? *p->next : NULL;
    _cleanup_free_ char *near = cli_suggest(first, next);
    _cleanup_free_ char *safe1 = str_escape(first, strlen(first), 64);
    _cleanup_free_ char *safe2 = second ? str_escape(second, strlen(second), 64) : NULL;

    err_set(p->err, ERR_INVALID, "unknown command '%s%s%s'", safe1, safe2 ? " " : "",
            safe2 ? safe2 : "");
    if (near) {
        return err_hint(p->err, "did you mean 'banger %s'?", near);
    }
    return err_hint(p->err, "see: banger%s%s --help", cli_is_noun(first) ? " " : "",
                    cli_is_noun(first) ? first : "");
}

/* Skips global flags. The next word, or NULL at the end. */
static int next_word(struct parser *p, const char **ret_word)
{
    while (*p->next && is_flag(*p->next)) {
        if (take_flag_word(p) < 0) {
            return -1;
        }
    }
    *ret_word = *p->next;
    p->next += *p->next != NULL;
    return 0;
}

static int parse_verb(struct parser *p)
{
    const char *first, *second = NULL;

    if (next_word(p, &first) < 0) {
        return -1;
    }
    if (!first) {
        return 0;
    }
    if (cli_is_noun(first)) {
        char *noun = p->next[-1];

        if (next_word(p, &second) < 0) {
            return -1;
        }
        if (!second) {
            p->args->operands[p->args->operand_count++] = noun;
            return 0;
        }
    }
    p->args->verb = cli_verb_find(first, second);
    return p->args->verb ? 0 : unknown_verb(p, first, second);
}

/* The rest --------------------------------------------------------------------------------------*/

static void take_command(struct parser *p)
{
    struct cli_args *a = p->args;

    a->command = p->next;
    while (*p->next) {
        p->next++;
        a->command_count++;
    }
}

static int parse_rest(struct parser *p)
{
    struct cli_args *a = p->args;
    const struct cli_verb *verb = a->verb;

    while (*p->next) {
        const char *word = *p->next;

        if (str_eq(word, "--")) {
            a->dashes = true;
            p->next++;
            if (verb->command == COMMAND_NONE) {
                while (*p->next) {
                    a->operands[a->operand_count++] = *p->next++;
                }
            } else {
                take_command(p);
            }
            return 0;
        }
        if (is_flag(word)) {
            if (take_flag_word(p) < 0) {
                return -1;
            }
        } else if (verb->command == COMMAND_AFTER_OPERANDS && a->operand_count == verb->max) {
            take_command(p);
        } else {
            a->operands[a->operand_count++] = *p->next++;
        }
    }
    return 0;
}

/* Operands that are one of a few words. */
static int check_choices(const struct cli_args *a, struct err *err)
{
    for (size_t i = 0; i < a->operand_count; i++) {
        _cleanup_free_ char *word = cli_operand_word(a->verb, i);
        _cleanup_free_ char *safe = str_escape(a->operands[i], strlen(a->operands[i]), 64);

        if (word && cli_kind_of(word) == KIND_CHOICE && !str_is_choice(word, a->operands[i])) {
            err_set(err, ERR_INVALID, "%s must be one of %s, not '%s'", a->verb->path, word, safe);
            return cli_hint_choice(err, word, a->operands[i]);
        }
    }
    return 0;
}

/* Commands after dashes look at surplus operands themselves: they may be a common mistake. */
static int check_operands(const struct cli_args *a, struct err *err)
{
    const struct cli_verb *verb = a->verb;

    if (a->operand_count < verb->min) {
        err_set(err, ERR_INVALID, "%s: %s is missing", verb->path, verb->operands);
    } else if (a->operand_count > verb->max && verb->command != COMMAND_AFTER_DASHES) {
        const char *extra = a->operands[verb->max];
        _cleanup_free_ char *safe = str_escape(extra, strlen(extra), 64);

        err_set(err, ERR_INVALID, "%s: unexpected argument '%s'", verb->path, safe);
    } else {
        return check_choices(a, err);
    }
    return err_hint(err, "see: banger %s --help", verb->path);
}

int cli_parse(struct cli *cli, char **argv, struct cli_args *ret_args, struct err *err)
{
    struct parser p = {.cli = cli, .next = argv, .args = ret_args, .err = err};
    size_t count = 0, letters = 0;

    for (char **arg = argv; *arg; arg++) {
        count++;
        letters += strlen(*arg);
    }
    /* One word may hold as many flags as it has letters (-abc). */
    *ret_args = (struct cli_args){
        .given = x_calloc(letters + 1, sizeof(*ret_args->given)),
        .operands = x_calloc(count + 1, sizeof(*ret_args->operands)),
    };
    if (parse_verb(&p) < 0) {
        return -1;
    }
    if (!ret_args->verb) {
        return 0;
    }
    if (parse_rest(&p) < 0) {
        return -1;
    }
    return ret_args->help ? 0 : check_operands(ret_args, err);
}

void cli_args_done(struct cli_args *args)
{
    free(args->given);
    free(args->operands);
    *args = (struct cli_args){0};
}

/* Flags to parameters ---------------------------------------------------------------------------*/

static int parse_ms(const char *text, long long max_ms, long long *ret)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", DAY_MS}};
    size_t digits = strspn(text, "0123456789");
    _cleanup_free_ char *number = x_strndup(text, digits);
    uint64_t v;
    int r = str_to_u64(number, (uint64_t)max_ms, &v);

    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (str_eq(text + digits, units[i].unit)) {
            if (v > (uint64_t)max_ms / units[i].ms) {
                return -ERANGE;
            }
            *ret = (long long)(v * units[i].ms);
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_unit(enum cli_unit unit, const char *text, long long max_ms, long long *ret)
{
    uint64_t v = 0;
    int r;

    if (unit == UNIT_MS) {
        return parse_ms(text, max_ms, ret);
    }
    r = str_to_u64(text, INT64_MAX, &v);
    if (r == -EINVAL && unit != UNIT_NONE) {
        r = str_to_size(text, &v);
        v = unit == UNIT_MIB ? v >> 20 : v;
    }
    if (r == 0 && v > INT64_MAX) {
        return -ERANGE;
    }
    *ret = (long long)v;
    return r;
}

char *cli_number_text(enum cli_unit unit, long long value)
{
    static const struct step {
        const char *name;
        long long factor; /* to the one before */
    } sizes[] = {{"", 1}, {"K", 1024}, {"M", 1024}, {"G", 1024}, {"T", 1024}, {NULL, 0}},
      times[] = {{"ms", 1}, {"s", 1000}, {"m", 60}, {"h", 60}, {"d", 24}, {NULL, 0}},
      none[] = {{"", 1}, {NULL, 0}};
    const struct step *s = unit == UNIT_MS ? times : unit == UNIT_NONE ? none : sizes;

    s += unit == UNIT_MIB ? 2 : 0;
    while (value > 0 && s[1].name && value % s[1].factor == 0) {
        s++;
        value /= s->factor;
    }
    return x_asprintf("%lld%s", value, s->name);
}

int cli_flag_number(const struct cli_flag *flag, const char *text, long long *ret, struct err *err)
{
    static const char *const examples[] = {
        [UNIT_NONE] = "a number",
        [UNIT_MIB] = "MiB, or a size such as 2G",
        [UNIT_BYTES] = "a size such as 8G",
        [UNIT_MS] = "a time such as 90s or 5m, at most a day",
    };
    const struct api_param *spec = cli_flag_param(flag);
    _cleanup_free_ char *safe = str_escape(text, strlen(text), 64);
    bool is_long = flag->unit == UNIT_MS && spec && spec->max > DAY_MS;
    long long v = 0;

    if (parse_unit(flag->unit, text, is_long ? spec->max : DAY_MS, &v) < 0) {
        return err_set(err, ERR_INVALID, "--%s must be %s, not '%s'", flag->name,
                       is_long ? "a time such as 12h or 7d, at most a year" : examples[flag->unit],
                       safe);
    }
    if (spec && (v < spec->min || v > spec->max)) {
        _cleanup_free_ char *min = cli_number_text(flag->unit, spec->min),
                            *max = cli_number_text(flag->unit, spec->max);

        return err_set(err, ERR_INVALID, "--%s must be %s to %s, not '%s'", flag->name, min, max,
                       safe);
    }
    *ret = v;
    return 0;
}

static int check_choice(const struct cli_given *g, struct err *err)
{
    const char *choices = cli_flag_choices(g->flag);
    _cleanup_free_ char *safe = NULL;

    if (!choices || !g->value || str_is_choice(choices, g->value)) {
        return 0;
    }
    safe = str_escape(g->value, strlen(g->value), 64);
    err_set(err, ERR_INVALID, "--%s must be one of %s, not '%s'", g->flag->name, choices, safe);
    return cli_hint_choice(err, choices, g->value);
}

static int check_string(const struct cli_given *g, const struct api_param *spec, struct err *err)
{
    size_t len = strlen(g->value);
    _cleanup_free_ char *safe = str_escape(g->value, len, 64);

    if (!spec->choices && spec->max > 0 && (len < (size_t)spec->min || len > (size_t)spec->max)) {
        return err_set(err, ERR_INVALID, "--%s must have %lld to %lld bytes", g->flag->name,
                       spec->min, spec->max);
    }
    if (spec->type == API_STRING && !str_is_utf8(g->value, len)) {
        return err_set(err, ERR_INVALID, "--%s '%s' is not UTF-8", g->flag->name, safe);
    }
    return 0;
}

/* NAME=value; returns the '=' or NULL with the error. */
static const char *find_equals(const struct cli_given *g, struct err *err)
{
    const char *equals = strchr(g->value, '=');

    if (!equals || equals == g->value) {
        err_set(err, ERR_INVALID, "--%s must be NAME=VALUE", g->flag->name);
        return NULL;
    }
    return equals;
}

/* An array of the object, made when missing. */
static json_t *member(json_t *params, const char *name, json_t *(*make)(void))
{
    if (!json_object_get(params, name)) {
        json_put(params, name, make());
    }
    return json_object_get(params, name);
}

static int put_label(const struct cli_given *g, json_t *params, struct err *err)
{
    const char *equals = find_equals(g, err);
    _cleanup_free_ char *key = equals ? x_strndup(g->value, (size_t)(equals - g->value)) : NULL;

    if (!equals) {
        return -1;
    }
    if (!str_is_utf8(g->value, strlen(g->value))) {
        return err_set(err, ERR_INVALID, "--%s is not UTF-8", g->flag->name);
    }
    json_put_str(member(params, g->flag->param, json_object), key, equals + 1);
    return 0;
}

static int put_param(const struct cli_given *g, const struct api_param *spec, json_t *params,
                     struct err *err)
{
    long long number = 0;

    if (check_choice(g, err) < 0) {
        return -1;
    }
    switch (spec->type) {
    case API_STRING:
    case API_BYTES:
        if (check_string(g, spec, err) < 0) {
            return -1;
        }
        json_put(params, spec->name, json_bytes_new(g->value, strlen(g->value)));
        return 0;
    case API_BOOL:
        json_put_bool(params, spec->name, !g->value || str_eq(g->value, "yes"));
        return 0;
    case API_INT:
        if (cli_flag_number(g->flag, g->value, &number, err) < 0) {
            return -1;
        }
        json_put_int(params, spec->name, number);
        return 0;
    case API_BYTES_LIST:
        if (strchr(g->flag->value, '=') && !find_equals(g, err)) {
            return -1;
        }
        json_array_append_new(member(params, spec->name, json_array),
                              json_bytes_new(g->value, strlen(g->value)));
        return 0;
    case API_LABELS:
        return put_label(g, params, err);
    default:
        break;
    }
    return err_set(err, ERR_INTERNAL, "--%s cannot be a parameter", g->flag->name);
}

int cli_args_params(const struct cli_args *args, const char *method, json_t *params,
                    struct err *err)
{
    const struct api_method *m = api_method_find(method);

    for (size_t i = 0; i < args->given_count; i++) {
        const struct cli_given *g = &args->given[i];

        if (str_eq(g->flag->method, method) && g->flag->param &&
            put_param(g, api_param_find(m, g->flag->param), params, err) < 0) {
            return -1;
        }
    }
    return 0;
}

json_t *cli_args_command(const struct cli_args *args)
{
    json_t *array = json_array();

    for (size_t i = 0; i < args->command_count; i++) {
        json_array_append_new(array, json_bytes_new(args->command[i], strlen(args->command[i])));
    }
    return array;
}
