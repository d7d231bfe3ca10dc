/* What the checks found: the daemon's, or those of a bangerd that only checks, and our own of what
 * is on the user's side. */
#pragma once

#include "cli/cli.h"

/* All Finding objects, ours first. New. ERR_*: not even paths are known. */
int cli_findings(struct cli *cli, json_t **ret, struct err *err);
