/* Doctor: configuration, directories, sockets and the programs that belong to banger. */
#include "daemon/doctor.h"

#include "base/str.h"
#include "version.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_LARGE_BYTES (256LL << 20)
#define INSTALL_FIX                                                                                \
    "install banger again: its programs belong beside bangerd, or in ../libexec/banger"

static void check_config(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;
    struct stat st;

    if (p->config_err) {
        doctor_fail_err(f, p->config_err);
        doctor_evidence(f, "%s", p->paths->config);
        if (!f->fix[0]) {
            doctor_fix(f, "edit %.300s; the keys: man 5 banger.toml", p->paths->config);
        }
    } else if (stat(p->paths->config, &st) == 0 && (st.st_mode & 022)) {
        doctor_evidence(f, "%s: mode %o", p->paths->config, st.st_mode & 0777);
        doctor_warn(f, "others may change the configuration");
        doctor_fix(f, "chmod go-w '%.300s'", p->paths->config);
    } else {
        doctor_evidence(f, "%s", p->paths->config);
        doctor_pass(f, "the configuration is valid");
    }
}

/* Of a directory that is made when it is needed: whether it can be. */
static void check_missing(const char *path, struct doctor_finding *f)
{
    _cleanup_free_ char *above = x_strdup(path);
    char *slash;

    while (access(above, F_OK) < 0 && (slash = strrchr(above, '/')) && slash != above) {
        *slash = '\0';
    }
    doctor_evidence(f, "%s: not there yet; %s", path, above);
    if (access(above, W_OK | X_OK) < 0) {
        doctor_fail(f, "directory '%.150s' cannot be made", path);
        doctor_fix(f, "make it, or name another with BANGER_STATE_DIR, BANGER_CACHE_DIR or "
                      "BANGER_RUNTIME_DIR");
    } else {
        doctor_pass(f, "the directory is made when it is needed");
    }
}

static void check_dir(const struct daemon_doctor_params *p, const char *path,
                      struct doctor_finding *f)
{
    uid_t owner = p->paths->owner_uid;
    struct stat st;

    if (stat(path, &st) < 0) {
        check_missing(path, f);
        return;
    }
    doctor_evidence(f, "%s: owner %u, mode %o", path, st.st_uid, st.st_mode & 07777);
    if (!S_ISDIR(st.st_mode)) {
        doctor_fail(f, "'%.150s' is no directory", path);
        doctor_fix(f, "move it away: mv '%.200s' '%.200s.old'", path, path);
    } else if (st.st_uid != owner && st.st_uid != 0) {
        doctor_fail(f, "directory '%.150s' belongs to user %u", path, st.st_uid);
        doctor_fix(f, "chown %u '%.300s'", owner, path);
    } else if (st.st_mode & 022) {
        doctor_fail(f, "others may write to directory '%.150s'", path);
        doctor_fix(f, "chmod 700 '%.300s'", path);
    } else if (access(path, R_OK | W_OK | X_OK) < 0) {
        doctor_fail(f, "directory '%.150s' cannot be written to", path);
        doctor_fix(f, "chown %u '%.200s'; chmod 700 '%.200s'", owner, path, path);
    } else if (st.st_mode & 077) {
        doctor_warn(f, "others may look into directory '%.150s'", path);
        doctor_fix(f, "chmod 700 '%.300s'", path);
    } else {
        doctor_pass(f, "the directory is its owner's alone");
    }
}

static void check_state_dir(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;

    check_dir(p, p->paths->state_dir, f);
}

static void check_cache_dir(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;

    check_dir(p, p->paths->cache_dir, f);
}

static void check_runtime_dir(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;

    check_dir(p, p->paths->runtime_dir, f);
}

static void check_socket(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;
    const char *path = p->paths->socket;
    struct stat st;

    if (lstat(path, &st) < 0) {
        doctor_evidence(f, "%s: %s", path, strerror(errno));
        doctor_pass(f, "there is no socket: no daemon listens");
        return;
    }
    doctor_evidence(f, "%s: owner %u, mode %o", path, st.st_uid, st.st_mode & 07777);
    if (!S_ISSOCK(st.st_mode)) {
        doctor_fail(f, "the daemon's socket is none");
        doctor_fix(f, "rm '%.300s'", path);
    } else if (st.st_uid != p->paths->owner_uid && st.st_uid != 0) {
        doctor_fail(f, "the daemon's socket belongs to user %u", st.st_uid);
        doctor_fix(f, "name another with --socket or BANGER_SOCKET");
    } else if (st.st_mode & 077) {
        doctor_fail(f, "others may connect to the daemon");
        doctor_fix(f, "chmod 600 '%.300s'", path);
    } else {
        doctor_pass(f, "only the daemon's owner may connect to it");
    }
}

/* Files that are 0600 from birth. */
static void check_files(const void *ctx, struct doctor_finding *f)
{
    static const char *const names[] = {"banger.db", "daemon.lock", "bangerd.log"};
    const struct daemon_doctor_params *p = ctx;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_free_ char *path = x_asprintf("%s/%s", p->paths->state_dir, names[i]);
        struct stat st;

        if (lstat(path, &st) < 0) {
            continue;
        }
        if (st.st_uid != p->paths->owner_uid && st.st_uid != 0) {
            doctor_evidence(f, "%s: owner %u", path, st.st_uid);
            doctor_fail(f, "a file of the daemon's belongs to user %u", st.st_uid);
            doctor_fix(f, "chown %u '%.300s'", p->paths->owner_uid, path);
            return;
        }
        if (st.st_mode & 077) {
            doctor_evidence(f, "%s: mode %o", path, st.st_mode & 07777);
            doctor_warn(f, "others may read a file of the daemon's");
            doctor_fix(f, "chmod 600 '%.300s'", path);
            return;
        }
    }
    doctor_evidence(f, "banger.db, daemon.lock, bangerd.log in %s", p->paths->state_dir);
    doctor_pass(f, "the daemon's files are its owner's alone");
}

static void check_log(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;
    _cleanup_free_ char *path = x_asprintf("%s/bangerd.log", p->paths->state_dir);
    char size[STR_BYTES_SIZE];
    struct stat st = {0};

    (void)lstat(path, &st);
    doctor_evidence(f, "%s: %lld bytes", path, (long long)st.st_size);
    if (st.st_size > LOG_LARGE_BYTES) {
        doctor_warn(f, "the daemon's log is large: %s", str_bytes((uint64_t)st.st_size, size));
        doctor_fix(f, "look what is in it, then: truncate -s 0 '%.300s'", path);
    } else {
        doctor_pass(f, "the daemon's log has a fair size");
    }
}

static void check_owner(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;
    uid_t owner = p->paths->owner_uid;
    const char *sudo = getenv("SUDO_UID");
    const struct passwd *user;

    errno = 0;
    user = getpwuid(owner);
    doctor_evidence(f, "owner %u (%s), this process %u%s%s", owner, user ? user->pw_name : "?",
                    geteuid(), sudo ? ", SUDO_UID " : "", sudo ? sudo : "");
    if (!user) {
        doctor_warn(f, "the daemon's owner, user %u, is not in the user database", owner);
        doctor_fix(f, "add it: useradd -u %u NAME; or start the daemon with --owner NAME", owner);
    } else if (geteuid() != owner) {
        doctor_fail(f, "this process does not act for the daemon's owner");
        doctor_fix(f, "run it as user '%s', or by sudo", user->pw_name);
    } else {
        doctor_pass(f, "the daemon belongs to '%s'", user->pw_name);
    }
}

const struct doctor_check daemon_file_checks[] = {
    {"config", "The configuration", 0, check_config},
    {"owner", "Whose the daemon is", 0, check_owner},
    {"state-dir", "The state directory", 0, check_state_dir},
    {"cache-dir", "The cache directory", 0, check_cache_dir},
    {"runtime-dir", "The runtime directory", 0, check_runtime_dir},
    {"socket", "The daemon's socket", 0, check_socket},
    {"files", "The daemon's files", 0, check_files},
    {"log", "The daemon's log", 0, check_log},
    {0},
};

/* Programs ------------------------------------------------------------------------------------- */

static void check_agent(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;

    if (access(p->agent, R_OK) < 0) {
        doctor_evidence(f, "%s: %s", p->agent, strerror(errno));
        doctor_fail(f, "cannot read the guest agent '%.150s': %s", p->agent, strerror(errno));
        f->code = ERR_IO;
        doctor_fix(f, INSTALL_FIX);
        return;
    }
    doctor_evidence(f, "%s", p->agent);
    doctor_pass(f, "the guest agent is there");
}

static void check_mkroot(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;

    if (access(p->mkroot, X_OK) < 0) {
        doctor_evidence(f, "%s: %s", p->mkroot, strerror(errno));
        doctor_fail(f, "'%.150s', which makes images, is not installed", p->mkroot);
        doctor_fix(f, INSTALL_FIX);
        return;
    }
    doctor_evidence(f, "%s", p->mkroot);
    doctor_pass(f, "the program that makes images is there");
}

static void check_programs(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;
    const char *const programs[] = {p->helper, p->launcher, p->agent, p->mkroot};

    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        struct stat st;

        if (stat(programs[i], &st) == 0 && (st.st_mode & 022)) {
            doctor_evidence(f, "%s: mode %o", programs[i], st.st_mode & 07777);
            doctor_warn(f, "others may change a program of banger's");
            doctor_fix(f, "chmod go-w '%.300s'", programs[i]);
            return;
        }
    }
    doctor_evidence(f, "%s, %s, %s, %s", p->helper, p->launcher, p->agent, p->mkroot);
    doctor_pass(f, "only their owner may change banger's programs");
}

static void check_versions(const void *ctx, struct doctor_finding *f)
{
    const struct daemon_doctor_params *p = ctx;
    const char *const programs[] = {p->helper, p->launcher, p->agent, p->mkroot};

    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        _cleanup_free_ char *version = doctor_program_version(programs[i]);

        /* One that is not there has a check of its own. */
        if (!str_eq(version, BANGER_VERSION) && access(programs[i], R_OK) == 0) {
            doctor_evidence(f, "%s: version %s; bangerd: " BANGER_VERSION, programs[i],
                            version ? version : "unknown");
            doctor_warn(f, "programs of different versions of banger are installed");
            doctor_fix(f, INSTALL_FIX);
            return;
        }
    }
    doctor_evidence(f, "bangerd, banger-helper, banger-launch, banger-agent, banger-mkroot: "
                       "" BANGER_VERSION);
    doctor_pass(f, "all programs are of one version");
}

const struct doctor_check daemon_program_checks[] = {
    {"agent", "The guest agent", DOCTOR_GATES_START, check_agent},
    {"mkroot", "The program that makes images", 0, check_mkroot},
    {"programs", "Who may change the programs", 0, check_programs},
    {"programs-version", "Versions of the programs", 0, check_versions},
    {0},
};
