#include "base/paths.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The last two uids stand for "no change" and "nobody by 16 bits" in the kernel's interface. */
#define UID_LAST 0xFFFFFFFDU

static const char *get(const struct paths_env *env, const char *name)
{
    const char *value = env->get(env->arg, name);

    return value && *value ? value : NULL;
}

static int resolve_owner(const struct paths_env *env, uid_t *ret_uid, struct err *err)
{
    const char *sudo_uid = get(env, "SUDO_UID");
    uint64_t uid = env->euid;

    if (env->euid == 0 && sudo_uid && str_to_u64(sudo_uid, UID_LAST, &uid) < 0) {
        return err_set(err, ERR_INVALID, "SUDO_UID='%s' is not a user id", sudo_uid);
    }
    *ret_uid = (uid_t)uid;
    return 0;
}

static int resolve_home(const struct paths_env *env, uid_t owner, char **ret_home, struct err *err)
{
    const char *home = owner == env->euid ? get(env, "HOME") : NULL;

    if (home && home[0] == '/') {
        *ret_home = x_strdup(home);
        return 0;
    }
    *ret_home = env->home(env->arg, owner);
    if (!*ret_home) {
        err_set(err, ERR_NOT_FOUND, "user %u has no home directory", owner);
        return err_hint(err, "set HOME, or BANGER_CONFIG, BANGER_STATE_DIR and BANGER_CACHE_DIR");
    }
    return 0;
}

static char *default_runtime_dir(const struct paths_env *env, uid_t owner)
{
    _cleanup_free_ char *run_user = x_asprintf("/run/user/%u", owner);
    const char *xdg = get(env, "XDG_RUNTIME_DIR");

    if (owner == 0) {
        return x_strdup("/run/banger");
    }
    if (xdg && xdg[0] == '/') {
        return x_asprintf("%s/banger", xdg);
    }
    /* sudo drops XDG_RUNTIME_DIR; the user's own commands have it, and must find the same daemon.
     */
    if (owner != env->euid && env->is_dir(env->arg, run_user, owner)) {
        return x_asprintf("%s/banger", run_user);
    }
    return x_asprintf("/tmp/banger-%u", owner);
}

/* Puts the override, or else fallback (stolen), into *ret. */
static int choose(const struct paths_env *env, const char *name, char *fallback, char **ret,
                  struct err *err)
{
    const char *value = get(env, name);

    *ret = fallback;
    if (!value) {
        return 0;
    }
    if (value[0] != '/') {
        return err_set(err, ERR_INVALID, "%s='%s' is not an absolute path", name, value);
    }
    free(fallback);
    *ret = x_strdup(value);
    return 0;
}

static int resolve_all(const struct paths_env *env, struct paths *p, struct err *err)
{
    _cleanup_free_ char *home = NULL;
    bool root = p->owner_uid == 0;
    bool all_set =
        get(env, "BANGER_CONFIG") && get(env, "BANGER_STATE_DIR") && get(env, "BANGER_CACHE_DIR");

    if (!root && !all_set && resolve_home(env, p->owner_uid, &home, err) < 0) {
        return -1;
    }
    if (choose(env, "BANGER_CONFIG",
               root ? x_strdup("/etc/banger/config.toml")
                    : x_asprintf("%s/.config/banger/config.toml", home ? home : ""),
               &p->config, err) < 0 ||
        choose(env, "BANGER_STATE_DIR",
               root ? x_strdup("/var/lib/banger")
                    : x_asprintf("%s/.local/state/banger", home ? home : ""),
               &p->state_dir, err) < 0 ||
        choose(env, "BANGER_CACHE_DIR",
               root ? x_strdup("/var/cache/banger")
                    : x_asprintf("%s/.cache/banger", home ? home : ""),
               &p->cache_dir, err) < 0 ||
        choose(env, "BANGER_RUNTIME_DIR", default_runtime_dir(env, p->owner_uid), &p->runtime_dir,
               err) < 0) {
        return -1;
    }
    return choose(env, "BANGER_SOCKET", x_asprintf("%s/banger.sock", p->runtime_dir), &p->socket,
                  err);
}

int paths_resolve(const struct paths_env *env, struct paths *ret_paths, struct err *err)
{
    struct paths p = {0};

    if (resolve_owner(env, &p.owner_uid, err) < 0 || resolve_all(env, &p, err) < 0) {
        paths_done(&p);
        return -1;
    }
    *ret_paths = p;
    return 0;
}

void paths_done(struct paths *p)
{
    free(p->config);
    free(p->state_dir);
    free(p->cache_dir);
    free(p->runtime_dir);
    free(p->socket);
    *p = (struct paths){0};
}

static const char *process_get(void *arg, const char *name)
{
    (void)arg;
    return getenv(name);
}

static char *process_home(void *arg, uid_t uid)
{
    char text[16384];
    struct passwd pw, *found = NULL;

    (void)arg;
    if (getpwuid_r(uid, &pw, text, sizeof(text), &found) != 0 || !found || pw.pw_dir[0] != '/') {
        return NULL;
    }
    return x_strdup(pw.pw_dir);
}

static bool process_is_dir(void *arg, const char *path, uid_t owner)
{
    struct stat st;

    (void)arg;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == owner;
}

struct paths_env paths_process_env(void)
{
    return (struct paths_env){
        .euid = geteuid(),
        .get = process_get,
        .home = process_home,
        .is_dir = process_is_dir,
    };
}

/* Makes one directory, for the owner also when we are root for them. 0 or -errno. */
static int make_dir(const struct paths *p, const char *path)
{
    _cleanup_close_ int fd = -1;

    if (mkdir(path, 0700) < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    if (geteuid() == p->owner_uid) {
        return 0;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 || fchown(fd, p->owner_uid, (gid_t)-1) < 0 ? -errno : 0;
}

static int make_dirs(const struct paths *p, const char *path)
{
    _cleanup_free_ char *copy = x_strdup(path);

    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        int r;

        *slash = '\0';
        r = make_dir(p, copy);
        *slash = '/';
        if (r < 0) {
            return r;
        }
    }
    return make_dir(p, copy);
}

static int check_owner(const struct paths *p, const char *path, const struct stat *st,
                       struct err *err)
{
    if (st->st_uid == p->owner_uid || st->st_uid == 0) {
        return 0;
    }
    err_set(err, ERR_DENIED, "directory '%s' belongs to user %u", path, st->st_uid);
    return err_hint(err, "move it away, or choose another place with BANGER_RUNTIME_DIR");
}

int paths_open_dir(const struct paths *p, const char *path, struct err *err)
{
    _cleanup_close_ int fd = -1;
    struct stat st;
    int r = make_dirs(p, path);

    if (r < 0) {
        err_set_errno(err, ERR_IO, r, "cannot make directory '%s'", path);
        return err_hint(err,
                        "BANGER_STATE_DIR, BANGER_CACHE_DIR and BANGER_RUNTIME_DIR name others");
    }
    /* Nobody else may have put a link or a directory of theirs at a name that we would use. */
    if (lstat(path, &st) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot open directory '%s'", path);
    }
    if (check_owner(p, path, &st, err) < 0) {
        return -1;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot open directory '%s'", path);
    }
    if (check_owner(p, path, &st, err) < 0) {
        return -1;
    }
    if (st.st_mode & 022) {
        err_set(err, ERR_DENIED, "others may write to directory '%s'", path);
        return err_hint(err, "chmod 700 '%s'", path);
    }
    return STEAL_FD(fd);
}

/* saved: the uid that one may go back to. */
static int become(const struct paths *p, uid_t saved, struct err *err)
{
    struct passwd *user;

    if (geteuid() != 0 || p->owner_uid == 0) {
        return 0;
    }
    errno = 0;
    user = getpwuid(p->owner_uid);
    if (!user) {
        return err_set_errno(err, ERR_NOT_FOUND, errno ? errno : ENOENT, "user %u",
                             (unsigned)p->owner_uid);
    }
    if (initgroups(user->pw_name, user->pw_gid) < 0 ||
        setresgid(user->pw_gid, user->pw_gid, user->pw_gid) < 0 ||
        setresuid(p->owner_uid, p->owner_uid, saved) < 0) {
        return err_set_errno(err, ERR_DENIED, errno, "cannot become user '%s'", user->pw_name);
    }
    return 0;
}

int paths_become_owner(const struct paths *p, struct err *err)
{
    return become(p, p->owner_uid, err);
}

int paths_act_as_owner(const struct paths *p, struct err *err)
{
    return become(p, 0, err);
}

bool paths_be_root_again(void)
{
    uid_t real, effective, saved;

    return getresuid(&real, &effective, &saved) == 0 && effective != 0 && saved == 0 &&
           setresuid(0, 0, 0) == 0;
}
