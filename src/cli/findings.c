#include "cli/findings.h"

#include "base/spawn.h"
#include "base/str.h"
#include "doctor/report.h"
#include "version.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

/* What our checks look at. */
struct side {
    struct cli *cli;
    struct client *client; /* NULL: see err */
    struct err err;        /* why there is no connection, or the daemon has not answered */
    json_t *status;        /* daemon.status, or NULL */
    json_t *findings;      /* the daemon's, or NULL */
};

static void check_daemon(const void *ctx, struct doctor_finding *f)
{
    const struct side *s = ctx;

    if (s->findings) {
        doctor_evidence(f, "%s: process %lld, version %s", s->cli->paths.socket,
                        json_int(s->status, "pid", 0), json_str(s->status, "version", "?"));
        doctor_pass(f, "the daemon runs");
        return;
    }
    doctor_evidence(f, "%s: %.900s", s->cli->paths.socket, s->err.message);
    if (s->err.code == ERR_NOT_RUNNING) {
        doctor_pass(f, "no daemon runs; commands that need it start it");
        return;
    }
    doctor_fail(f, "the daemon cannot be asked");
    if (s->status) {
        doctor_fix(f, "banger daemon stop: the next command starts the daemon that is installed");
    } else {
        doctor_fix(f, "%s", s->err.hint[0] ? s->err.hint : "see its log, then: banger daemon stop");
    }
}

/* Of the daemon that runs; else of the one that would be started. */
static void check_version(const void *ctx, struct doctor_finding *f)
{
    const struct side *s = ctx;
    _cleanup_free_ char *program = client_find_daemon();
    _cleanup_free_ char *installed = s->status ? NULL : doctor_program_version(program);
    const char *version = s->status ? json_str(s->status, "version", NULL) : installed;

    doctor_evidence(f, "banger " BANGER_VERSION "; %s %s", s->status ? "the daemon" : program,
                    version ? version : "unknown");
    if (!version || str_eq(version, BANGER_VERSION)) {
        doctor_pass(f, "banger and its daemon are of one version");
        return;
    }
    doctor_warn(f, "banger and its daemon are of different versions");
    doctor_fix(f, "%s",
               s->status ? "banger daemon stop: VMs go on, and the next command starts the "
                           "daemon that is installed"
                         : "install banger again: its programs belong beside each other");
}

static void check_ssh(const void *ctx, struct doctor_finding *f)
{
    _cleanup_free_ char *program = spawn_find_program("ssh");

    (void)ctx;
    doctor_evidence(f, "ssh: %s", program ? program : "not in PATH");
    if (program) {
        doctor_pass(f, "ssh is there");
    } else {
        doctor_warn(f, "ssh, for tools that want it, is not installed");
        doctor_fix(f, "apt-get install openssh-client");
    }
}

static void check_ssh_key(const void *ctx, struct doctor_finding *f)
{
    const char *home = getenv("HOME");
    _cleanup_free_ char *pattern = x_asprintf("%s/.ssh/id_*.pub", home ? home : "");
    glob_t found = {0};
    int r = glob(pattern, GLOB_NOSORT, NULL, &found);

    (void)ctx;
    if (r == 0) {
        doctor_evidence(f, "%s", found.gl_pathv[0]);
        doctor_pass(f, "there is a key for ssh");
    } else {
        doctor_evidence(f, "%s: none", pattern);
        doctor_warn(f, "this user has no key for ssh");
        doctor_fix(f, "ssh-keygen -t ed25519");
    }
    globfree(&found);
}

static const struct doctor_check user_checks[] = {
    {"daemon", "The daemon answers", 0, check_daemon},
    {"daemon-version", "Versions of banger and its daemon", 0, check_version},
    {"ssh", "The ssh client", 0, check_ssh},
    {"ssh-key", "A key for ssh", 0, check_ssh_key},
    {0},
};

/* What the daemon says, if there is one. */
static void ask(struct side *s)
{
    if (cli_connect(s->cli, false, &s->client, &s->err) < 0) {
        return;
    }
    if (client_call(s->client, "daemon.status", NULL, &s->status, &s->err) == 0) {
        (void)client_call(s->client, "doctor", NULL, &s->findings, &s->err);
    }
}

int cli_findings(struct cli *cli, json_t **ret, struct err *err)
{
    struct side s = {.cli = cli};
    _cleanup_doctor_ struct doctor *d = doctor_new();
    json_t *all;
    int r;

    if (cli_resolve_paths(cli, err) < 0) {
        return -1;
    }
    ask(&s);
    doctor_add(d, user_checks, &s);
    all = doctor_report(d);
    r = s.findings ? 0 : client_doctor(&cli->paths, &s.findings, err);
    if (r == 0) {
        json_array_extend(all, s.findings);
        *ret = STEAL_PTR(all);
    }
    json_decref(all);
    json_decref(s.status);
    json_decref(s.findings);
    client_free(s.client);
    return r;
}
