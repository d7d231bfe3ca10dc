#include "daemon/split.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"
#include "codec/toml.h"
#include "sys/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define HELPER_FD 3
/* The last two ids mean "no change" and, in 16 bits, "no such id". */
#define UID_END 0xFFFFFFFEU

/* What is wrong with the range, or NULL. */
static const char *check_range(const struct config *c, uid_t owner)
{
    int64_t end = c->vmm_uid_first + c->vmm_uid_count;

    return end > UID_END                              ? "go beyond 4294967293"
           : owner >= c->vmm_uid_first && owner < end ? "include the daemon's owner"
                                                      : NULL;
}

/* The configuration as far as root may believe it; else, and with mistakes in it, the defaults. The
 * owner reads it once more, and tells what is wrong. */
static void load_trusted(const char *path, uid_t owner, struct config *ret)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    _cleanup_free_ char *own_path = x_asprintf("/proc/self/fd/%d", fd);
    _cleanup_free_ char *text = NULL;
    struct err ignored;
    struct stat st;
    size_t len;

    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == 0 && !(st.st_mode & 022) &&
        fs_read_file(AT_FDCWD, own_path, TOML_TEXT_MAX, &text, &len) == 0 &&
        config_parse(path, text, len, ret, &ignored) == 0) {
        if (!check_range(ret, owner)) {
            return;
        }
        config_done(ret);
    }
    if (config_parse(path, "", 0, ret, &ignored) < 0) {
        abort(); /* there is nothing in it to be wrong */
    }
}

static int start_helper(const struct paths *paths, const char *helper, int fd, struct err *err)
{
    _cleanup_config_ struct config c = {0};
    _cleanup_close_ int pidfd = -1;
    _cleanup_free_ char *path = x_asprintf("PATH=%s", getenv("PATH"));
    const char *const env[] = {path, NULL};
    const struct spawn_fd fds[] = {{STDERR_FILENO, STDERR_FILENO}, {fd, HELPER_FD}};
    char owner[16], first[16], count[16];
    const char *const argv[] = {helper, owner, paths->runtime_dir, first, count, NULL};
    pid_t pid;
    int r;

    load_trusted(paths->config, paths->owner_uid, &c);
    (void)snprintf(owner, sizeof(owner), "%u", paths->owner_uid);
    (void)snprintf(first, sizeof(first), "%u", (unsigned)c.vmm_uid_first);
    (void)snprintf(count, sizeof(count), "%u", (unsigned)c.vmm_uid_count);
    r = spawn_process(
        &(struct spawn_params){
            .argv = argv, .env = env, .fds = fds, .fd_count = ARRAY_LEN(fds), .new_session = true},
        &pid, &pidfd);
    if (r < 0) {
        err_set_errno(err, ERR_INTERNAL, r, "cannot start '%s'", helper);
        return err_hint(err, "banger-helper belongs beside bangerd, or in ../libexec/banger");
    }
    return 0;
}

/* The bounding set while we may, the rest once we are who we are going to be. */
static int become_owner(const struct paths *paths, struct err *err)
{
    int r = privileges_bound(NULL, 0);

    if (r < 0) {
        return err_set_errno(err, ERR_DENIED, r, "cannot give up root");
    }
    if (paths_become_owner(paths, err) < 0) {
        return -1;
    }
    return split_not(err);
}

int split_not(struct err *err)
{
    int r = privileges_set(NULL, 0);

    return r < 0 ? err_set_errno(err, ERR_DENIED, r, "cannot give up capabilities") : 0;
}

int split_from_helper(const struct paths *paths, const char *helper, struct host **ret_host,
                      struct err *err)
{
    _cleanup_(host_free_p) struct host *host = NULL;
    _cleanup_close_ int theirs = -1;
    struct host_status status;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot make the helper's socket");
    }
    host = host_proxy_new(ends[0]);
    theirs = ends[1];
    if (start_helper(paths, helper, theirs, err) < 0) {
        return -1;
    }
    close_p(&theirs);
    if (become_owner(paths, err) < 0) {
        return -1;
    }
    if (host_status(host, &status, err) < 0) {
        return err_wrap(err, "'%s' did not start", helper);
    }
    log_info("process %d keeps root; this one is user %u", status.pid, geteuid());
    *ret_host = STEAL_PTR(host);
    return 0;
}

int split_check_uids(struct host *host, const struct config *c, struct err *err)
{
    const char *wrong = check_range(c, geteuid());
    struct host_status status;

    if (wrong) {
        return err_set(err, ERR_INVALID, "'vmm_uid_first' and 'vmm_uid_count' %s", wrong);
    }
    if (host_status(host, &status, err) < 0) {
        return -1;
    }
    if (status.uid_count > 0 &&
        (status.uid_first != c->vmm_uid_first || status.uid_count != c->vmm_uid_count)) {
        err_set(err, ERR_DENIED,
                "'vmm_uid_first' and 'vmm_uid_count' in '%s': others than root can write to it",
                c->path);
        return err_hint(err,
                        "which uids VMs run as is root's to say: chown root, or leave them out");
    }
    return 0;
}
