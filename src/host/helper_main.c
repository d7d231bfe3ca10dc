/*
 * banger-helper: what bangerd starts first when it has root, and then has root no more. See
 * helper.h. Its socket is descriptor 3.
 *
 *   banger-helper OWNER_UID RUNTIME_DIR UID_FIRST UID_COUNT
 */
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "host/helper.h"
#include "launch/launch.h"
#include "sys/privileges.h"
#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

BANGER_VERSION_MARK;

#define SOCKET_FD 3

/* For banger-launch: namespaces and mounts; another uid; an empty bounding set; /dev/kvm for that
 * uid. To be able to start it where it lies in somebody's home. To end what runs as that uid. And
 * for networks: interfaces, addresses, routes, rules, and the kernel's switches of all that, and
 * the nameserver's port. */
static const int capabilities[] = {
    CAP_SYS_ADMIN, CAP_SETUID,          CAP_SETGID, CAP_SETPCAP,   CAP_MKNOD,
    CAP_CHOWN,     CAP_DAC_READ_SEARCH, CAP_KILL,   CAP_NET_ADMIN, CAP_NET_BIND_SERVICE,
};

/* It lies beside this program. */
static char *find_launcher(void)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    self[n > 0 ? n : 0] = '\0';
    return x_asprintf("%s/" LAUNCH_PROGRAM, dirname(self));
}

/* Whoever may write to it becomes root by it. */
static void warn_of_owner(const char *program)
{
    struct stat st;

    if (stat(program, &st) == 0 && (st.st_uid != 0 || (st.st_mode & 022))) {
        log_warn("'%s' can be changed by others than root, who can so become root", program);
    }
}

static int parse_uid(const char *text, uint64_t most, uid_t *ret)
{
    uint64_t value;

    if (str_to_u64(text, most, &value) < 0) {
        return -1;
    }
    *ret = (uid_t)value;
    return 0;
}

/* What root says, so the only thing here that is believed. */
static int parse(int argc, char **argv, struct host_local_params *ret)
{
    if (argc != 5 || argv[2][0] != '/' || parse_uid(argv[1], UINT32_MAX - 2, &ret->owner) < 0 ||
        parse_uid(argv[3], UINT32_MAX - 2, &ret->uid_first) < 0 || ret->uid_first == 0 ||
        parse_uid(argv[4], UINT32_MAX - 1 - ret->uid_first, &ret->uid_count) < 0 ||
        ret->uid_count == 0) {
        return -1;
    }
    ret->name = argv[2];
    return ret->owner < ret->uid_first || ret->owner - ret->uid_first >= ret->uid_count ? 0 : -1;
}

static int become_helper(void)
{
    int n;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(077);
    fs_raise_limit(); /* one for each VMM */
    if (fcntl(SOCKET_FD, F_SETFD, FD_CLOEXEC) < 0 || chdir("/") < 0 || setgroups(0, NULL) < 0 ||
        setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
        return -errno;
    }
    n = privileges_bound(capabilities, ARRAY_LEN(capabilities));
    return n < 0 ? n : privileges_set(capabilities, ARRAY_LEN(capabilities));
}

int main(int argc, char **argv)
{
    _cleanup_free_ char *launcher = find_launcher();
    struct host_local_params local = {.launcher = launcher};
    _cleanup_(host_free_p) struct host *host = NULL;
    struct err err = {0};
    int r;

    if (parse(argc, argv, &local) < 0) {
        (void)fputs("banger-helper: bangerd starts it, with arguments of its own\n", stderr);
        return 2;
    }
    r = become_helper();
    if (r < 0) {
        log_error("the helper cannot become what it should be: %s", strerror(-r));
        return 1;
    }
    warn_of_owner(launcher);
    host = host_local_new(&local);
    if (helper_serve(&(struct helper_params){.host = host,
                                             .runtime_dir = local.name,
                                             .status = {.pid = getpid(),
                                                        .uid_first = local.uid_first,
                                                        .uid_count = local.uid_count},
                                             .fd = SOCKET_FD},
                     &err) < 0) {
        log_error("the helper ends: %s", err.message);
        return 3;
    }
    return 0;
}
