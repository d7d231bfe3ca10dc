/*
 * The command line: one table of verbs (verbs.c), from which arguments are parsed (args.c), help is
 * printed (help.c, help_json.c), typing errors are explained (lookup.c) and commands are run
 * (cmd_<noun>.c). A flag that stands for an API parameter takes its text, limits and default from
 * codec/api.c. One thread.
 */
#pragma once

#include "base/paths.h"
#include "client/client.h"
#include "codec/json.h"

#include <stdbool.h>
#include <stdint.h>

#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_BANGER 125 /* run and exec: banger failed, not the command */

struct api_param;

enum cli_format { FORMAT_TABLE, FORMAT_JSON, FORMAT_JSONL };

/* One invocation. */
struct cli {
    enum cli_format format;
    bool quiet;
    bool debug;
    const char *socket; /* --socket, or NULL */
    bool stdin_closed;  /* we were started without one */
    bool stdout_tty;
    bool stderr_tty;
    bool stderr_live;   /* stderr is a terminal, and we may move its cursor */
    struct paths paths; /* set by cli_connect */
};

/* How the text of a flag becomes the value of its parameter. */
enum cli_unit {
    UNIT_NONE,
    UNIT_MIB,   /* "512", "512M", "2G" -> MiB */
    UNIT_BYTES, /* "64M", "8G" -> bytes */
    UNIT_MS,    /* "5", "5s", "500ms", "2m", "1h" -> milliseconds */
};

struct cli_flag {
    const char *name;   /* without dashes */
    char letter;        /* or 0 */
    const char *value;  /* what help calls the value; NULL = a switch */
    const char *method; /* with param: the API parameter it stands for */
    const char *param;
    const char *doc;     /* instead of the parameter's text */
    const char *choices; /* instead of the parameter's: what there is, separated by '|' */
    enum cli_unit unit;
};

/* What an operand or the value of a flag is; told by the word that help shows for it. */
enum cli_kind {
    KIND_UNKNOWN, /* a word that cli_kind_of does not know: a mistake in the table */
    KIND_TEXT,    /* anything, or something in a guest */
    KIND_VM,
    KIND_SESSION, /* of the VM before it */
    KIND_OP,
    KIND_IMAGE,
    KIND_KERNEL,
    KIND_TEMPLATE,
    KIND_FILE, /* on the host */
    KIND_DIR,
    KIND_COPY,    /* on the host, or VM:PATH */
    KIND_COMMAND, /* of banger's own */
    KIND_CHOICE,  /* "bash|zsh|fish" */
};

struct cli_args;

enum cli_command_rule {
    COMMAND_NONE,
    COMMAND_AFTER_DASHES,   /* run: what follows -- */
    COMMAND_AFTER_OPERANDS, /* exec: also what follows the last operand */
};

struct cli_verb {
    const char *path;     /* "vm list"; a space means noun and verb */
    const char *alias;    /* a short form, or NULL */
    const char *operands; /* as shown in help, "" for none */
    unsigned min, max;    /* operands */
    enum cli_command_rule command;
    const struct cli_flag *flags; /* ends with a NULL name; NULL = none */
    const char *doc;              /* first sentence: for the list */
    const char *more;             /* or NULL */
    int (*run)(struct cli *cli, const struct cli_args *args); /* the exit status */
};

extern const struct cli_verb cli_verbs[]; /* ends with a NULL path; one without doc is hidden */
extern const struct cli_flag cli_global_flags[];

/* args.c: parsing. All strings are argv's. */
struct cli_given {
    const struct cli_flag *flag;
    const char *value; /* NULL for a switch */
};

struct cli_args {
    const struct cli_verb *verb; /* NULL: only global flags were given */
    bool help;
    struct cli_given *given;
    size_t given_count;
    char **operands;
    size_t operand_count;
    char **command; /* ends with NULL */
    size_t command_count;
    bool dashes; /* there was a -- */
};

/* argv without the program's name. ERR_INVALID: a usage error. */
int cli_parse(struct cli *cli, char **argv, struct cli_args *ret_args, struct err *err);
void cli_args_done(struct cli_args *args);
#define _cleanup_args_ _cleanup_(cli_args_done)

/* The last value given to a flag, or NULL. A switch that was given has the value "". */
const char *cli_arg(const struct cli_args *args, const char *flag);
/* A verb's flag text as a number by its unit and limits. ERR_INVALID. */
int cli_flag_number(const struct cli_flag *flag, const char *text, long long *ret, struct err *err);
/* A number as somebody would write it: in the largest unit that it is whole in. Free it. */
char *cli_number_text(enum cli_unit unit, long long value);
/* Sets the members of params that flags of the method stand for. ERR_INVALID. */
int cli_args_params(const struct cli_args *args, const char *method, json_t *params,
                    struct err *err);
/* The command as an array of bytes, for session.start and main. */
json_t *cli_args_command(const struct cli_args *args);

/* lookup.c */
/* The verb of this name (noun and verb, or short form), or NULL; second may be NULL. */
const struct cli_verb *cli_verb_find(const char *first, const char *second);
bool cli_is_noun(const char *word);
/* Other words for a verb behind a noun ("ls" for "list"), by index; NULL at their end. */
const char *cli_verb_alias(const char *word, size_t index);
/* A flag of an array that may be NULL, or NULL. */
const struct cli_flag *cli_flag_find(const struct cli_flag *flags, const char *name, size_t len);
const struct cli_flag *cli_flag_by_letter(const struct cli_flag *flags, char letter);
/* The parameter that a flag stands for, or NULL; the values it allows, or NULL. */
const struct api_param *cli_flag_param(const struct cli_flag *flag);
const char *cli_flag_choices(const struct cli_flag *flag);
/* What a word such as "VM..." of an operand or a flag's value stands for. */
enum cli_kind cli_kind_of(const char *word);
/* The word that help shows for an operand, or NULL behind the last one. Free it. */
char *cli_operand_word(const struct cli_verb *verb, size_t index);
/* What was probably meant by words that name no verb ("vm list"), or NULL; second may be NULL.
 * Free it. */
char *cli_suggest(const char *first, const char *second);
/* Adds the hint at the choice nearest to value, if there is one; returns -1. */
int cli_hint_choice(struct err *err, const char *choices, const char *value);

/* help.c; help_json.c */
void cli_help_all(FILE *out);
void cli_help_noun(FILE *out, const char *noun);
void cli_help_verb(FILE *out, const struct cli_verb *verb);
/* Help for a flag: its own text or the parameter's; its default as people write it, or NULL. */
const char *cli_flag_doc(const struct cli_flag *flag);
char *cli_flag_default(const struct cli_flag *flag);
/* All that help says of a flag: text, choices, default. Free it. */
char *cli_flag_text(const struct cli_flag *flag);
/* The table as {commands[], flags[]}, hidden commands included; noun (or NULL): only its own. */
json_t *cli_help_json(const char *noun);
json_t *cli_help_verb_json(const struct cli_verb *verb);

/* cli.c: sets cli->paths, and acts as their owner. */
int cli_resolve_paths(struct cli *cli, struct err *err);
/* Connects, starting the daemon if need be (start). ERR_*. */
int cli_connect(struct cli *cli, bool start, struct client **ret_client, struct err *err);
/* One call on a connection of its own. */
int cli_call(struct cli *cli, const char *method, json_t *params, json_t **ret_result,
             struct err *err);
int cli_run(int argc, char **argv);

/* The commands. */
int cmd_run(struct cli *cli, const struct cli_args *args);
int cmd_exec(struct cli *cli, const struct cli_args *args);
int cmd_cp(struct cli *cli, const struct cli_args *args);
int cmd_forward(struct cli *cli, const struct cli_args *args);
int cmd_ps(struct cli *cli, const struct cli_args *args);
int cmd_vm_list(struct cli *cli, const struct cli_args *args);
int cmd_vm_show(struct cli *cli, const struct cli_args *args);
int cmd_vm_create(struct cli *cli, const struct cli_args *args);
int cmd_vm_start(struct cli *cli, const struct cli_args *args);
int cmd_vm_stop(struct cli *cli, const struct cli_args *args);
int cmd_vm_restart(struct cli *cli, const struct cli_args *args);
int cmd_vm_kill(struct cli *cli, const struct cli_args *args);
int cmd_vm_pause(struct cli *cli, const struct cli_args *args);
int cmd_vm_resume(struct cli *cli, const struct cli_args *args);
int cmd_vm_wait(struct cli *cli, const struct cli_args *args);
int cmd_vm_set(struct cli *cli, const struct cli_args *args);
int cmd_vm_prune(struct cli *cli, const struct cli_args *args);
int cmd_vm_touch(struct cli *cli, const struct cli_args *args);
int cmd_vm_timeline(struct cli *cli, const struct cli_args *args);
int cmd_vm_rename(struct cli *cli, const struct cli_args *args);
int cmd_vm_delete(struct cli *cli, const struct cli_args *args);
int cmd_vm_stats(struct cli *cli, const struct cli_args *args);
int cmd_vm_top(struct cli *cli, const struct cli_args *args);
int cmd_vm_ports(struct cli *cli, const struct cli_args *args);
int cmd_vm_logs(struct cli *cli, const struct cli_args *args);
int cmd_image_list(struct cli *cli, const struct cli_args *args);
int cmd_image_register(struct cli *cli, const struct cli_args *args);
int cmd_template_list(struct cli *cli, const struct cli_args *args);
int cmd_template_show(struct cli *cli, const struct cli_args *args);
int cmd_template_create(struct cli *cli, const struct cli_args *args);
int cmd_template_delete(struct cli *cli, const struct cli_args *args);
int cmd_template_pool(struct cli *cli, const struct cli_args *args);
int cmd_template_verify(struct cli *cli, const struct cli_args *args);
int cmd_template_prune(struct cli *cli, const struct cli_args *args);
int cmd_kernel_list(struct cli *cli, const struct cli_args *args);
int cmd_kernel_import(struct cli *cli, const struct cli_args *args);
int cmd_session_list(struct cli *cli, const struct cli_args *args);
int cmd_session_wait(struct cli *cli, const struct cli_args *args);
int cmd_op_list(struct cli *cli, const struct cli_args *args);
int cmd_op_show(struct cli *cli, const struct cli_args *args);
int cmd_op_cancel(struct cli *cli, const struct cli_args *args);
int cmd_op_wait(struct cli *cli, const struct cli_args *args);
int cmd_events(struct cli *cli, const struct cli_args *args);
int cmd_config_list(struct cli *cli, const struct cli_args *args);
int cmd_config_show(struct cli *cli, const struct cli_args *args);
int cmd_daemon_status(struct cli *cli, const struct cli_args *args);
int cmd_daemon_stop(struct cli *cli, const struct cli_args *args);
int cmd_daemon_reconcile(struct cli *cli, const struct cli_args *args);
int cmd_daemon_verify_store(struct cli *cli, const struct cli_args *args);
int cmd_doctor(struct cli *cli, const struct cli_args *args);
int cmd_debug_bundle(struct cli *cli, const struct cli_args *args);
int cmd_version(struct cli *cli, const struct cli_args *args);
int cmd_help(struct cli *cli, const struct cli_args *args);
int cmd_completion(struct cli *cli, const struct cli_args *args);
int cmd_man(struct cli *cli, const struct cli_args *args);
int cmd_complete(struct cli *cli, const struct cli_args *args);
int cmd_internal_config(struct cli *cli, const struct cli_args *args);
int cmd_protocol(struct cli *cli, const struct cli_args *args);
