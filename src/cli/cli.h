/*
 * The command line: one table of verbs (verbs.c), from which arguments are parsed (args.c), help is
 * printed (help.c) and commands are run (cmd_<noun>.c). A flag that stands for an API parameter
 * takes its text, limits and default from codec/api.c. One thread.
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
    const char *doc; /* instead of the parameter's text */
    enum cli_unit unit;
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
/* Sets the members of params that flags of the method stand for. ERR_INVALID. */
int cli_args_params(const struct cli_args *args, const char *method, json_t *params,
                    struct err *err);
/* The command as an array of bytes, for session.start and main. */
json_t *cli_args_command(const struct cli_args *args);

/* The verb of this name (noun and verb, or short form), or NULL; second may be NULL. */
const struct cli_verb *cli_verb_find(const char *first, const char *second);
bool cli_is_noun(const char *word);
/* What was probably meant, or NULL. */
const char *cli_suggest(const char *first, const char *second);

/* help.c */
void cli_help_all(FILE *out);
void cli_help_noun(FILE *out, const char *noun);
void cli_help_verb(FILE *out, const struct cli_verb *verb);

/* cli.c: connects, starting the daemon if need be (start). ERR_*. */
int cli_connect(struct cli *cli, bool start, struct client **ret_client, struct err *err);
/* One call on a connection of its own. */
int cli_call(struct cli *cli, const char *method, json_t *params, json_t **ret_result,
             struct err *err);
int cli_run(int argc, char **argv);

/* The commands. */
int cmd_run(struct cli *cli, const struct cli_args *args);
int cmd_exec(struct cli *cli, const struct cli_args *args);
int cmd_ps(struct cli *cli, const struct cli_args *args);
int cmd_vm_list(struct cli *cli, const struct cli_args *args);
int cmd_vm_show(struct cli *cli, const struct cli_args *args);
int cmd_vm_create(struct cli *cli, const struct cli_args *args);
int cmd_vm_start(struct cli *cli, const struct cli_args *args);
int cmd_vm_stop(struct cli *cli, const struct cli_args *args);
int cmd_vm_delete(struct cli *cli, const struct cli_args *args);
int cmd_vm_logs(struct cli *cli, const struct cli_args *args);
int cmd_image_list(struct cli *cli, const struct cli_args *args);
int cmd_image_register(struct cli *cli, const struct cli_args *args);
int cmd_kernel_list(struct cli *cli, const struct cli_args *args);
int cmd_kernel_import(struct cli *cli, const struct cli_args *args);
int cmd_session_list(struct cli *cli, const struct cli_args *args);
int cmd_op_list(struct cli *cli, const struct cli_args *args);
int cmd_daemon_status(struct cli *cli, const struct cli_args *args);
int cmd_daemon_stop(struct cli *cli, const struct cli_args *args);
int cmd_version(struct cli *cli, const struct cli_args *args);
int cmd_help(struct cli *cli, const struct cli_args *args);
int cmd_protocol(struct cli *cli, const struct cli_args *args);
