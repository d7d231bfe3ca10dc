/* banger cp: what is to be copied from where to where. How: transfer.c. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/transfer.h"

#include <string.h>

/* One operand. */
struct end {
    char *vm;         /* owned; NULL = local */
    const char *path; /* of argv */
    bool stream;      /* "-" */
};

struct copy {
    struct cli *cli;
    const struct cli_args *args;
    int signals_fd;
    bool recursive, archive;
    struct end *ends; /* the sources, and behind them the destination */
    size_t sources;
};

/* VM:PATH, unless a slash comes before the colon. */
static struct end parse_end(const char *operand)
{
    size_t len = strcspn(operand, ":/");

    if (str_eq(operand, "-")) {
        return (struct end){.path = operand, .stream = true};
    }
    if (len == 0 || operand[len] != ':') {
        return (struct end){.path = operand};
    }
    return (struct end){
        .vm = x_asprintf("%.*s", (int)len, operand),
        .path = operand[len + 1] ? operand + len + 1 : "/",
    };
}

/* Checks ----------------------------------------------------------------------------------------*/

static int check_streams(const struct copy *c, struct err *err)
{
    const struct end *dst = &c->ends[c->sources];

    for (size_t i = 0; i <= c->sources; i++) {
        if (c->ends[i].stream && i < c->sources && c->sources > 1) {
            return err_set(err, ERR_INVALID, "cp: - cannot be one of several sources");
        }
    }
    if (c->ends[0].stream && !dst->vm) {
        err_set(err, ERR_INVALID, "cp: a tar on standard input goes into a VM");
        return err_hint(err, "banger cp - VM:/directory");
    }
    if (dst->stream && c->cli->stdout_tty) {
        err_set(err, ERR_INVALID, "cp: a tar is not for a terminal");
        return err_hint(err, "write it to a file: banger cp VM:PATH - >file.tar");
    }
    return 0;
}

/* Text alone: a guest's symlinks are not known here. */
static bool is_within(const char *dst, const char *src)
{
    size_t len = strlen(src);

    while (len > 0 && src[len - 1] == '/') {
        len--;
    }
    return strncmp(dst, src, len) == 0 && (dst[len] == '/' || dst[len] == '\0');
}

static int check_ends(const struct copy *c, struct err *err)
{
    const struct end *dst = &c->ends[c->sources];

    if (check_streams(c, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < c->sources; i++) {
        const struct end *src = &c->ends[i];

        if (!src->vm && !src->stream && !dst->vm) {
            err_set(err, ERR_INVALID, "cp: neither '%s' nor '%s' is in a VM", src->path, dst->path);
            return err_hint(err, "write VM:PATH for a path in a VM");
        }
        if (dst->vm && src->vm && str_eq(dst->vm, src->vm) && c->recursive &&
            is_within(dst->path, src->path)) {
            return err_set(err, ERR_INVALID, "cp: cannot copy '%s:%s' into itself", src->vm,
                           src->path);
        }
    }
    return 0;
}

/* The two sides ---------------------------------------------------------------------------------*/

/* What the sources from `first` on are called at the destination. */
static json_t *names_of(const struct end *first, size_t count)
{
    json_t *names = json_array();

    for (size_t i = 0; i < count; i++) {
        _cleanup_free_ char *name = archive_name(first[i].path);

        (void)json_array_append_new(names, json_bytes_new(name, strlen(name)));
    }
    return names;
}

static json_t *common_params(const struct copy *c, bool recursive)
{
    json_t *params = json_object();
    struct err ignored; /* switches, and a user: nothing that could be wrong here */

    (void)cli_args_params(c->args, "file.put", params, &ignored);
    json_put_bool(params, "recursive", recursive);
    json_put_bool(params, "archive", c->archive);
    return params;
}

static json_t *put_params(const struct copy *c, const struct end *src, size_t count)
{
    const struct end *dst = &c->ends[c->sources];
    json_t *params = common_params(c, c->recursive || src->stream);

    json_put(params, "path", json_bytes_new(dst->path, strlen(dst->path)));
    if (!src->stream) {
        json_put(params, "names", names_of(src, count));
    }
    json_put_bool(params, "directory", c->sources > 1);
    return params;
}

static json_t *get_params(const struct copy *c, const struct end *src, size_t count)
{
    json_t *params = common_params(c, c->recursive || c->ends[c->sources].stream);
    json_t *paths = json_array();

    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(paths, json_bytes_new(src[i].path, strlen(src[i].path)));
    }
    json_put(params, "paths", paths);
    return params;
}

static void free_names(char **names)
{
    for (size_t i = 0; names && names[i]; i++) {
        free(names[i]);
    }
    free(names);
}
DEFINE_CLEANUP(char **, free_names);

static int transfer(const struct copy *c, const struct end *src, size_t count, struct remote *from,
                    struct remote *to)
{
    const struct end *dst = &c->ends[c->sources];
    _cleanup_(free_names_p) char **names = x_calloc(count + 1, sizeof(*names));
    _cleanup_free_ const char **paths = x_calloc(count + 1, sizeof(*paths));
    struct archive_pack pack = {
        .paths = paths, .path_count = count, .recursive = c->recursive, .keep_ids = c->archive};
    struct archive_unpack unpack = {.path = dst->path,
                                    .names = (const char *const *)names,
                                    .name_count = count,
                                    .directory = c->sources > 1,
                                    .recursive = c->recursive,
                                    .keep_ids = c->archive};

    for (size_t i = 0; i < count; i++) {
        names[i] = archive_name(src[i].path);
        paths[i] = src[i].path;
    }
    return transfer_run(&(struct transfer_params){
        .cli = c->cli,
        .signals_fd = c->signals_fd,
        .from = from,
        .pack = from || src->stream ? NULL : &pack,
        .from_stdin = src->stream,
        .to = to,
        .unpack = to || dst->stream ? NULL : &unpack,
        .to_stdout = dst->stream,
    });
}

/* Copies `count` sources of the same kind. The exit status. */
static int copy_group(const struct copy *c, const struct end *src, size_t count)
{
    const struct end *dst = &c->ends[c->sources];
    _cleanup_(remote_close) struct remote from = {.fd = -1}, to = {.fd = -1};
    int signal = 0, r = 0;
    struct err err;

    if (src->vm) {
        r = remote_open(&from, c->cli, src->vm, "file.get", get_params(c, src, count),
                        c->signals_fd, &signal, &err);
    }
    if (r == 0 && dst->vm) {
        r = remote_open(&to, c->cli, dst->vm, "file.put", put_params(c, src, count), c->signals_fd,
                        &signal, &err);
    }
    if (r < 0) {
        return signal ? 128 + signal
                      : out_error(c->cli, to.client ? to.client : from.client, NULL, &err);
    }
    return transfer(c, src, count, src->vm ? &from : NULL, dst->vm ? &to : NULL);
}

static bool same_kind(const struct end *a, const struct end *b)
{
    return a->stream == b->stream && !a->vm == !b->vm && (!a->vm || str_eq(a->vm, b->vm));
}

static int copy_all(const struct copy *c)
{
    int status = 0;

    for (size_t i = 0, count; i < c->sources; i += count) {
        int r;

        count = 1;
        while (i + count < c->sources && same_kind(&c->ends[i], &c->ends[i + count])) {
            count++;
        }
        r = copy_group(c, &c->ends[i], count);
        if (r >= 128) {
            return r;
        }
        status = r ? r : status;
    }
    return status;
}

int cmd_cp(struct cli *cli, const struct cli_args *args)
{
    _cleanup_close_ int signals_fd = -1;
    struct copy c = {
        .cli = cli,
        .args = args,
        .archive = cli_arg(args, "archive") != NULL,
        .recursive = cli_arg(args, "recursive") || cli_arg(args, "archive"),
        .ends = x_calloc(args->operand_count, sizeof(struct end)),
        .sources = args->operand_count - 1,
    };
    struct err err;
    int status;

    for (size_t i = 0; i < args->operand_count; i++) {
        c.ends[i] = parse_end(args->operands[i]);
    }
    if (check_ends(&c, &err) < 0) {
        status = out_usage(cli, "cp", &err);
    } else {
        signals_fd = signals_open();
        c.signals_fd = signals_fd;
        status = copy_all(&c);
    }
    for (size_t i = 0; i < args->operand_count; i++) {
        free(c.ends[i].vm);
    }
    free(c.ends);
    return status;
}
