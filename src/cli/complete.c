/*
 * Completion: what may stand where the cursor is. The shells' scripts (complete_scripts.c) hand
 * over the words of the line, and everything is decided here by the table of verbs. Names of things
 * are the daemon's; it is asked only when it runs already. On any failure nothing is printed: a
 * line that is being typed is no place for errors.
 *
 * One candidate a line, "word<TAB>what it is"; and ":files", ":dirs" where paths fit as well,
 * ":nospace" where the word goes on behind the candidate.
 */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/pages.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_MS 1000 /* of somebody who pressed a key */
#define DOC_MAX 60

struct completion {
    struct cli *cli;
    const char *noun; /* the first word, until there is a verb */
    const struct cli_verb *verb;
    const struct cli_flag *pending; /* the word before was this flag, and wants a value */
    bool command;                   /* behind what is ours: the guest's words */
    bool dashes;                    /* no flags any more */
    char **operands;
    size_t operand_count;
    const char *prefix;  /* what candidates begin with... */
    const char *current; /* ...and what remains of the word */
};

/* Candidates ------------------------------------------------------------------------------------*/

/* Words that a shell would have to quote cannot be offered, nor can what is no name at all. */
static bool is_plain(const char *word)
{
    for (const char *c = word; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("-_.:/@+=,", *c)) {
            return false;
        }
    }
    return word[0] != '\0' && word[0] != ':';
}

static void offer(const struct completion *c, const char *word, const char *what)
{
    /* The first sentence. */
    const char *end = what ? strstr(what, ". ") : NULL;
    size_t len = end ? (size_t)(end - what) : what ? strlen(what) : 0;
    _cleanup_free_ char *safe = str_escape(what ? what : "", len, DOC_MAX);

    if (word && is_plain(word) && str_starts_with(word, c->current)) {
        (void)printf("%s%s%s%s\n", c->prefix, word, safe[0] ? "\t" : "", safe);
    }
}

static void offer_choices(const struct completion *c, const char *choices)
{
    while (*choices) {
        size_t len = strcspn(choices, "|");
        _cleanup_free_ char *choice = x_strndup(choices, len);

        offer(c, choice, NULL);
        choices += len + (choices[len] == '|');
    }
}

/* What the daemon knows of a method; NULL when it does not run or does not answer. */
static json_t *ask(const struct completion *c, const char *method, json_t *params)
{
    _cleanup_client_ struct client *client = NULL;
    _cleanup_json_ json_t *owned = params;
    json_t *result = NULL;
    struct err ignored;

    if (cli_connect(c->cli, false, &client, &ignored) < 0 ||
        client_call(client, method, STEAL_PTR(owned), &result, &ignored) < 0) {
        return NULL;
    }
    return result;
}

static bool is_given(const struct completion *c, const char *word)
{
    for (size_t i = 0; i < c->operand_count; i++) {
        if (str_eq(c->operands[i], word)) {
            return true;
        }
    }
    return false;
}

/* Names; ids only for who begins to type one. */
static void offer_vms(const struct completion *c, const char *behind)
{
    _cleanup_client_ struct client *client = NULL;
    _cleanup_json_ json_t *vms = NULL;
    struct err ignored;
    const json_t *vm;
    size_t i;

    if (cli_connect(c->cli, false, &client, &ignored) < 0 ||
        pages_list_vms(client, true, "name|state|created_at", &vms, &ignored) < 0) {
        return;
    }

    json_array_foreach (vms, i, vm) {
        const char *name = json_str(vm, "name", "");
        _cleanup_free_ char *id = cell_id(vm);
        _cleanup_free_ char *word = x_asprintf("%s%s", name, behind);
        _cleanup_free_ char *id_word = x_asprintf("%s%s", id, behind);

        if (is_given(c, name)) {
            continue;
        }
        offer(c, word, json_str(vm, "state", NULL));
        if (c->current[0] && !str_starts_with(word, c->current)) {
            offer(c, id_word, name);
        }
    }
}

static void offer_sessions(const struct completion *c)
{
    json_t *params = json_object();
    _cleanup_json_ json_t *sessions = NULL;
    const json_t *session;
    size_t i;

    json_put_str(params, "vm", c->operand_count > 0 ? c->operands[0] : NULL);
    sessions = ask(c, "session.list", params);
    json_array_foreach (sessions, i, session) {
        _cleanup_free_ char *id = cell_id(session);
        _cleanup_free_ char *command = out_words(json_object_get(session, "command"));
        _cleanup_free_ char *what = x_asprintf("%s: %s", json_str(session, "state", ""), command);

        offer(c, id, what);
    }
}

static void offer_ops(const struct completion *c)
{
    _cleanup_json_ json_t *ops = ask(c, "op.list", NULL);
    const json_t *op;
    size_t i;

    json_array_foreach (ops, i, op) {
        _cleanup_free_ char *id = cell_id(op);
        _cleanup_free_ char *what =
            x_asprintf("%s %s: %s", json_str(op, "kind", ""), json_str(op, "target", ""),
                       json_str(op, "state", ""));

        offer(c, id, what);
    }
}

/* Images and kernels: by each of their names. */
static void offer_named(const struct completion *c, const char *method)
{
    _cleanup_json_ json_t *list = ask(c, method, NULL);
    const json_t *object, *name;
    size_t i, n;

    json_array_foreach (list, i, object) {
        json_array_foreach (json_object_get(object, "names"), n, name) {
            offer(c, json_string_value(name), json_str(object, "version", NULL));
        }
    }
}

/* By id, as nobody names them. */
static void offer_templates(const struct completion *c)
{
    _cleanup_json_ json_t *templates = ask(c, "template.list", NULL);
    const json_t *template;
    size_t i;

    json_array_foreach (templates, i, template) {
        _cleanup_free_ char *id = cell_id(template);
        _cleanup_free_ char *memory = out_size(json_int(template, "memory_mib", 0) << 20);
        _cleanup_free_ char *what =
            x_asprintf("%s, %s", json_str(json_object_get(template, "image"), "name", ""), memory);

        if (!is_given(c, id)) {
            offer(c, id, what);
        }
    }
}

/* Commands --------------------------------------------------------------------------------------*/

/* The word of a verb that stands behind the noun (or first, when noun is NULL). */
static char *word_of(const struct cli_verb *verb, const char *noun)
{
    const char *space = strchr(verb->path, ' ');
    size_t len = space ? (size_t)(space - verb->path) : strlen(verb->path);

    if (!noun) {
        return x_strndup(verb->path, len);
    }
    return space && strlen(noun) == len && strncmp(verb->path, noun, len) == 0 ? x_strdup(space + 1)
                                                                               : NULL;
}

static void offer_verbs(const struct completion *c, const char *noun)
{
    const char *last_noun = "";

    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        _cleanup_free_ char *word = v->doc ? word_of(v, noun) : NULL;
        bool is_noun = word && !noun && strchr(v->path, ' ');

        if (!word) {
            continue;
        }
        if (!is_noun) {
            offer(c, word, v->doc);
        } else if (strncmp(v->path, last_noun, strlen(word) + 1) != 0) {
            offer(c, word, "commands on one kind of thing");
        }
        last_noun = v->path;
        if (!noun) {
            offer(c, v->alias, v->doc);
        }
        for (size_t i = 0; noun && c->current[0] && cli_verb_alias(word, i); i++) {
            offer(c, cli_verb_alias(word, i), v->doc);
        }
    }
}

static void offer_flags(const struct completion *c)
{
    const struct cli_flag *sets[] = {c->verb ? c->verb->flags : NULL, cli_global_flags};

    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        for (const struct cli_flag *f = sets[i]; f && f->name; f++) {
            _cleanup_free_ char *word = x_asprintf("--%s", f->name);

            offer(c, word, cli_flag_doc(f));
        }
    }
}

/* Values ----------------------------------------------------------------------------------------*/

static void offer_kind(const struct completion *c, const char *word)
{
    switch (cli_kind_of(word)) {
    case KIND_VM:
        offer_vms(c, "");
        return;
    case KIND_SESSION:
        offer_sessions(c);
        return;
    case KIND_OP:
        offer_ops(c);
        return;
    case KIND_IMAGE:
        offer_named(c, "image.list");
        return;
    case KIND_KERNEL:
        offer_named(c, "kernel.list");
        return;
    case KIND_TEMPLATE:
        offer_templates(c);
        return;
    case KIND_FILE:
        (void)puts(":files");
        return;
    case KIND_DIR:
        (void)puts(":dirs");
        return;
    case KIND_COPY:
        (void)puts(":nospace\n:files");
        offer_vms(c, ":");
        return;
    case KIND_COMMAND:
        offer_verbs(c, c->operand_count > 0 ? c->operands[0] : NULL);
        return;
    case KIND_CHOICE:
        offer_choices(c, word);
        return;
    case KIND_TEXT:
    case KIND_UNKNOWN:
        return;
    }
}

static void offer_value(const struct completion *c, const struct cli_flag *flag)
{
    const char *choices = cli_flag_choices(flag);

    if (choices) {
        offer_choices(c, choices);
    } else if (flag->value) {
        offer_kind(c, flag->value);
    }
}

static void offer_operand(const struct completion *c)
{
    _cleanup_free_ char *word = NULL;

    if (c->operand_count < c->verb->max) {
        word = cli_operand_word(c->verb, c->operand_count);
    }
    /* What run and exec have behind their operands is the guest's. */
    if (word && !(c->verb->command != COMMAND_NONE && cli_kind_of(word) == KIND_COMMAND)) {
        offer_kind(c, word);
    }
}

/* The words before the cursor -------------------------------------------------------------------*/

static const struct cli_flag *flag_of(const struct completion *c, const char *word)
{
    const struct cli_flag *own = c->verb ? c->verb->flags : NULL, *flag;
    size_t len = strlen(word);

    if (str_starts_with(word, "--")) {
        flag = cli_flag_find(own, word + 2, strcspn(word + 2, "="));
        return flag ? flag : cli_flag_find(cli_global_flags, word + 2, strcspn(word + 2, "="));
    }
    flag = cli_flag_by_letter(own, word[len - 1]);
    return flag ? flag : cli_flag_by_letter(cli_global_flags, word[len - 1]);
}

/* Whether the letters of -ivalue take their value within the word. */
static bool has_value(const struct completion *c, const char *word)
{
    if (str_starts_with(word, "--")) {
        return strchr(word, '=') != NULL;
    }
    for (const char *letter = word + 1; letter[0] && letter[1]; letter++) {
        const char one[] = {'-', *letter, '\0'};
        const struct cli_flag *flag = flag_of(c, one);

        if (flag && flag->value) {
            return true;
        }
    }
    return false;
}

static void take_flag(struct completion *c, const char *word)
{
    const struct cli_flag *flag = flag_of(c, word);
    const char *equals = strchr(word, '=');

    if (flag && flag->value && !has_value(c, word)) {
        c->pending = flag;
    } else if (flag && str_eq(flag->name, "socket") && equals) {
        c->cli->socket = equals + 1;
    }
}

/* False when nothing can be said any more. */
static bool take_verb(struct completion *c, const char *word)
{
    if (!c->noun && cli_is_noun(word)) {
        c->noun = word;
        return true;
    }
    c->verb = c->noun ? cli_verb_find(c->noun, word) : cli_verb_find(word, NULL);
    return c->verb != NULL;
}

static bool take_word(struct completion *c, char *word)
{
    if (c->pending) {
        if (str_eq(c->pending->name, "socket")) {
            c->cli->socket = word;
        }
        c->pending = NULL;
    } else if (!c->dashes && str_eq(word, "--")) {
        c->dashes = true;
        c->command = c->verb && c->verb->command != COMMAND_NONE;
    } else if (!c->dashes && word[0] == '-' && word[1]) {
        take_flag(c, word);
    } else if (!c->verb) {
        return take_verb(c, word);
    } else {
        c->command |=
            c->verb->command == COMMAND_AFTER_OPERANDS && c->operand_count == c->verb->max;
        c->operands[c->operand_count++] = word;
    }
    return true;
}

static void complete(struct completion *c, const char *word)
{
    const char *equals = strchr(word, '=');

    c->current = word;
    c->prefix = "";
    if (c->command || (c->verb && c->verb->command == COMMAND_AFTER_OPERANDS &&
                       c->operand_count == c->verb->max && word[0] != '-')) {
        return;
    }
    if (c->pending) {
        offer_value(c, c->pending);
    } else if (!c->dashes && str_starts_with(word, "--") && equals) {
        _cleanup_free_ char *before = x_strndup(word, (size_t)(equals - word) + 1);
        const struct cli_flag *flag = flag_of(c, word);

        c->prefix = before;
        c->current = equals + 1;
        if (flag) {
            offer_value(c, flag);
        }
    } else if (!c->dashes && word[0] == '-') {
        offer_flags(c);
    } else if (!c->verb) {
        offer_verbs(c, c->noun);
    } else {
        offer_operand(c);
    }
}

/* Whatever hangs (a daemon that does not answer, a directory on a dead server): nothing was printed
 * yet, and nothing will be. */
static void on_alarm(int sig)
{
    (void)sig;
    _exit(0);
}

int cmd_complete(struct cli *cli, const struct cli_args *args)
{
    const struct sigaction action = {.sa_handler = on_alarm};
    const struct itimerval limit = {
        .it_value = {.tv_sec = PATIENCE_MS / 1000, .tv_usec = PATIENCE_MS % 1000 * 1000L}};
    struct completion c = {.cli = cli};
    _cleanup_free_ char **operands = x_calloc(args->command_count + 1, sizeof(*operands));

    (void)sigaction(SIGALRM, &action, NULL);
    (void)setitimer(ITIMER_REAL, &limit, NULL);
    c.operands = operands;
    for (size_t i = 0; i + 1 < args->command_count; i++) {
        if (!take_word(&c, args->command[i])) {
            return 0;
        }
    }
    if (args->command_count > 0) {
        complete(&c, args->command[args->command_count - 1]);
    }
    return 0;
}
