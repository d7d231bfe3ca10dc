/* One invocation: from argv to an exit status. */
#include "cli/cli.h"

#include "base/str.h"
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *get_path(void *arg, const char *name)
{
    const struct cli *cli = arg;

    return cli->socket && str_eq(name, "BANGER_SOCKET") ? cli->socket : getenv(name);
}

/* --socket may be relative; the daemon that we may start is not where we are. */
static int absolute_socket(struct cli *cli, char **ret_path, struct err *err)
{
    char cwd[4096];

    if (!cli->socket || cli->socket[0] == '/') {
        return 0;
    }
    if (!cli->socket[0] || !getcwd(cwd, sizeof(cwd))) {
        err_set(err, ERR_INVALID, "--socket wants a path");
        return err_hint(err, "without --socket it is the daemon of your user");
    }
    *ret_path = x_asprintf("%s/%s", cwd, cli->socket);
    cli->socket = *ret_path;
    return 0;
}

int cli_resolve_paths(struct cli *cli, struct err *err)
{
    _cleanup_free_ char *socket = NULL;
    const char *given = cli->socket;
    struct paths_env env = paths_process_env();
    int r;

    if (cli->paths.socket) {
        return 0;
    }
    if (absolute_socket(cli, &socket, err) < 0) {
        return -1;
    }
    env.get = get_path;
    env.arg = cli;
    r = paths_resolve(&env, &cli->paths, err);
    if (r == 0) {
        r = paths_act_as_owner(&cli->paths, err);
    }
    cli->socket = given;
    return r;
}

int cli_connect(struct cli *cli, bool start, struct client **ret_client, struct err *err)
{
    if (cli_resolve_paths(cli, err) < 0) {
        return -1;
    }
    return client_connect(
        &(struct client_params){.paths = &cli->paths, .start = start, .trace = cli->debug},
        ret_client, err);
}

int cli_call(struct cli *cli, const char *method, json_t *params, json_t **ret_result,
             struct err *err)
{
    _cleanup_client_ struct client *c = NULL;
    _cleanup_json_ json_t *owned = params;

    if (cli_connect(cli, true, &c, err) < 0) {
        return -1;
    }
    return client_call(c, method, STEAL_PTR(owned), ret_result, err);
}

/* Descriptors 0 to 2 must not become sockets of ours. */
static void keep_standard_fds(struct cli *cli)
{
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            cli->stdin_closed |= fd == 0;
            (void)open("/dev/null", O_RDWR);
        }
    }
}

static int run_verb(struct cli *cli, char **argv)
{
    _cleanup_args_ struct cli_args args = {0};
    struct err err;

    if (cli_parse(cli, argv, &args, &err) < 0) {
        return out_usage(cli, args.verb ? args.verb->path : NULL, &err);
    }
    if (args.help && args.verb) {
        cli_help_verb(stdout, args.verb);
        return 0;
    }
    if (!args.verb) {
        FILE *out = args.help ? stdout : stderr;

        if (args.operand_count) {
            cli_help_noun(out, args.operands[0]);
        } else {
            cli_help_all(out);
        }
        return args.help ? 0 : EXIT_USAGE;
    }
    return args.verb->run(cli, &args);
}

/* NO_COLOR asks for plain text (no-color.org); a dumb terminal can nothing else. */
static bool may_move_cursor(void)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return !(no_color && *no_color) && term && *term && !str_eq(term, "dumb");
}

int cli_run(int argc, char **argv)
{
    struct cli cli = {0};
    char *none[] = {NULL};
    int status;

    keep_standard_fds(&cli);
    cli.stdout_tty = isatty(STDOUT_FILENO);
    cli.stderr_tty = isatty(STDERR_FILENO);
    cli.stderr_live = cli.stderr_tty && may_move_cursor();
    status = run_verb(&cli, argc > 0 ? argv + 1 : none);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        struct err err;

        err_set_errno(&err, ERR_IO, errno, "cannot write to standard output");
        status = out_error(&cli, NULL, NULL, &err);
    }
    paths_done(&cli.paths);
    return status;
}
