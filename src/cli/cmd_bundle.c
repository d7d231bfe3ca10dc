/* debug-bundle: all that somebody needs who is to find out what is wrong, without secrets. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/bundle.h"
#include "cli/cli.h"
#include "cli/findings.h"
#include "cli/output.h"
#include "codec/config.h"
#include "version.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#define LOG_BYTES ((size_t)1 << 20)
#define VM_LOG_BYTES ((size_t)256 * 1024)
#define VMS_MAX 64
#define VM_LIST_MAX 500

/* What the daemon is asked. */
static const struct {
    const char *name, *method;
} questions[] = {
    {"daemon-status.json", "daemon.status"}, {"vms.json", "vm.list"},
    {"operations.json", "op.list"},          {"images.json", "image.list"},
    {"kernels.json", "kernel.list"},         {"templates.json", "template.list"},
    {"config.json", "config.show"},          {"store-check.json", "daemon.verify_store"},
    {"reconcile.json", "daemon.reconcile"},
};

static json_t *params_of(const char *method)
{
    json_t *params = json_object();

    if (str_eq(method, "vm.list")) {
        json_put_bool(params, "all", true);
        json_put_int(params, "limit", VM_LIST_MAX);
    } else if (str_eq(method, "daemon.reconcile")) {
        json_put_bool(params, "dry_run", true);
    }
    return params;
}

/* Without a daemon: what it would go by. */
static void add_config(struct cli *cli, struct bundle *b)
{
    _cleanup_config_ struct config config = {0};
    _cleanup_json_ json_t *settings = NULL;
    struct err err;

    if (config_load(cli->paths.config, &config, &err) < 0) {
        bundle_missing(b, "config.json", err.message);
        return;
    }
    settings = config_settings(&config);
    bundle_json(b, "config.json", settings);
}

static void add_answers(struct cli *cli, struct bundle *b)
{
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
        /* One each: a daemon that breaks at one of them may answer the others. */
        _cleanup_client_ struct client *c = NULL;
        _cleanup_json_ json_t *answer = NULL;

        if (cli_connect(cli, false, &c, &err) == 0 &&
            client_call(c, questions[i].method, params_of(questions[i].method), &answer, &err) ==
                0) {
            bundle_json(b, questions[i].name, answer);
        } else if (err.code == ERR_NOT_RUNNING && str_eq(questions[i].method, "config.show")) {
            add_config(cli, b);
        } else {
            bundle_missing(b, questions[i].name, err.message);
        }
    }
}

static void add_findings(struct cli *cli, struct bundle *b)
{
    _cleanup_json_ json_t *findings = NULL;
    struct err err;

    if (cli_findings(cli, &findings, &err) < 0) {
        bundle_missing(b, "doctor.json", err.message);
    } else {
        bundle_json(b, "doctor.json", findings);
    }
}

static void add_versions(struct bundle *b)
{
    _cleanup_json_ json_t *o = json_object();
    char time[CLOCK_RFC3339_SIZE];
    struct utsname u;

    clock_format_rfc3339(clock_real_ms(), time);
    json_put_str(o, "time", time);
    json_put_str(o, "banger", BANGER_VERSION);
    if (uname(&u) == 0) {
        json_put_str(o, "kernel", u.release);
        json_put_str(o, "machine", u.machine);
    }
    bundle_json(b, "versions.json", o);
}

/* Logs ------------------------------------------------------------------------------------------*/

struct vm_log {
    char id[256];
    int64_t changed_s;
};

static int newest_first(const void *a, const void *b)
{
    const struct vm_log *x = a, *y = b;

    return x->changed_s < y->changed_s ? 1 : x->changed_s > y->changed_s ? -1 : 0;
}

/* The logs of that name below dir/vms, of those VMs whose log changed last. */
static void add_vm_logs(struct bundle *b, const char *dir, const char *file)
{
    _cleanup_free_ char *path = x_asprintf("%s/vms", dir);
    DIR *vms = opendir(path);
    struct vm_log *logs = NULL;
    size_t count = 0;
    struct dirent *e;

    while (vms && (e = readdir(vms))) {
        _cleanup_free_ char *log = x_asprintf("%s/%s", e->d_name, file);
        struct stat st;

        if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof(logs->id) ||
            fstatat(dirfd(vms), log, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        logs = reallocarray(logs, count + 1, sizeof(*logs));
        if (!logs) {
            abort();
        }
        logs[count] = (struct vm_log){.changed_s = st.st_mtime};
        (void)snprintf(logs[count++].id, sizeof(logs->id), "%s", e->d_name);
    }
    if (count > 0) {
        qsort(logs, count, sizeof(*logs), newest_first);
    }
    for (size_t i = 0; i < count && i < VMS_MAX; i++) {
        _cleanup_free_ char *log = x_asprintf("%s/%s", logs[i].id, file);
        _cleanup_free_ char *name = x_asprintf("vms/%s", log);

        bundle_tail(b, name, dirfd(vms), log, VM_LOG_BYTES);
    }
    free(logs);
    if (vms) {
        (void)closedir(vms);
    }
}

static void collect(struct cli *cli, struct bundle *b)
{
    _cleanup_free_ char *log = x_asprintf("%s/bangerd.log", cli->paths.state_dir);

    add_versions(b);
    add_findings(cli, b);
    add_answers(cli, b);
    bundle_tail(b, "bangerd.log", AT_FDCWD, log, LOG_BYTES);
    /* The agent's words are on the console. */
    add_vm_logs(b, cli->paths.state_dir, "console.log");
    add_vm_logs(b, cli->paths.runtime_dir, "vmm.log");
    bundle_end(b);
}

/* Out -------------------------------------------------------------------------------------------*/

/* A new file, which is there whole or not at all. */
static int write_file(const char *path, const struct buf *tar, struct err *err)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int r;

    if (fd < 0) {
        err_set_errno(err, errno == EEXIST ? ERR_ALREADY_EXISTS : ERR_IO, errno, "cannot make '%s'",
                      path);
        return errno == EEXIST ? err_hint(err, "name another file, or remove it first") : -1;
    }
    r = fs_write_all(fd, buf_head(tar), tar->len);
    if (r < 0) {
        (void)unlink(path);
        return err_set_errno(err, ERR_IO, r, "cannot write '%s'", path);
    }
    return 0;
}

static int write_stdout(const struct cli *cli, const struct buf *tar, struct err *err)
{
    int r;

    if (cli->stdout_tty) {
        err_set(err, ERR_INVALID, "a terminal cannot take an archive");
        return err_hint(err, "redirect standard output, or name a file");
    }
    r = fs_write_all(STDOUT_FILENO, buf_head(tar), tar->len);
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot write to standard output") : 0;
}

static char *default_path(void)
{
    time_t now = time(NULL);
    char text[32] = "";
    struct tm tm;

    if (gmtime_r(&now, &tm)) {
        (void)strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &tm);
    }
    return x_asprintf("banger-debug-%s.tar", text);
}

static void tell(const struct cli *cli, const struct bundle *b, const char *path)
{
    FILE *out = str_eq(path, "-") ? stderr : stdout;
    _cleanup_free_ char *safe = str_escape(path, strlen(path), strlen(path));
    json_t *o;
    size_t i;

    if (cli->quiet) {
        return;
    }
    json_array_foreach (b->files, i, o) {
        _cleanup_free_ char *size = out_size(json_int(o, "bytes", 0));

        (void)fprintf(out, "%7s  %s\n", size, json_str(o, "name", ""));
    }
    json_array_foreach (b->missing, i, o) {
        (void)fprintf(out, "missing  %s: %s\n", json_str(o, "name", ""), json_str(o, "why", ""));
    }
    (void)fprintf(out,
                  "%s: what is known to be secret is taken out; look into it before you give "
                  "it away\n",
                  safe);
}

static void tell_json(const struct cli *cli, const struct bundle *b, const char *path)
{
    _cleanup_json_ json_t *o = json_object();

    json_put(o, "path", json_bytes_new(path, strlen(path)));
    json_put(o, "files", json_incref(b->files));
    json_put(o, "missing", json_incref(b->missing));
    out_json(cli, o);
}

int cmd_debug_bundle(struct cli *cli, const struct cli_args *args)
{
    _cleanup_free_ char *made = args->operand_count ? NULL : default_path();
    const char *path = made ? made : args->operands[0];
    bool to_stdout = str_eq(path, "-");
    struct bundle b;
    struct err err;
    int r;

    if (cli_resolve_paths(cli, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    bundle_init(&b);
    collect(cli, &b);
    r = to_stdout ? write_stdout(cli, &b.tar, &err) : write_file(path, &b.tar, &err);
    if (r == 0 && cli->format != FORMAT_TABLE && !to_stdout) {
        tell_json(cli, &b, path);
    } else if (r == 0) {
        tell(cli, &b, path);
    }
    bundle_done(&b);
    return r < 0 ? out_error(cli, NULL, NULL, &err) : 0;
}
