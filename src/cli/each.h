/* Verbs on several things that are named, all at once: those that fail do not hold up the others,
 * and what is named twice is done once. */
#pragma once

#include "cli/cli.h"

struct each {
    const char *method;
    const char *param; /* which the operand is: "vm", "op" */
    const char *doing; /* "stop", as in: cannot stop 'x' */
};

/* Calls the method for each operand, with the flags that stand for its parameters, and prints
 * errors. *ret_results is set unless none could be called: an array of the results that came, in
 * the order of the operands, the caller's. The exit status. */
int each_operand(struct cli *cli, const struct cli_args *args, const struct each *each,
                 json_t **ret_results);

/* Prints what each_operand gave: for one operand an object, for several an array, however many of
 * them are well. NULL: nothing. */
void each_print(const struct cli *cli, const struct cli_args *args, const json_t *results);

/* Prints "cannot <doing> '<ref>': <why>"; c may be NULL. EXIT_FAILED. */
int each_fail(struct cli *cli, const struct client *c, const char *doing, const char *ref,
              const struct err *err);
