/* bangerd: arguments, paths, configuration, then daemon_open, daemon_serve, daemon_close. */
#include "base/log.h"
#include "base/str.h"
#include "daemon/daemon.h"
#include "daemon/path_settings.h"
#include "daemon/split.h"
#include "daemon/supervisor.h"
#include "host/host.h"
#include "version.h"
#include "vmm/fake/fake_process.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

BANGER_VERSION_MARK;

static const char usage[] =
    "usage: bangerd [--config FILE] [--state-dir DIR] [--cache-dir DIR] [--runtime-dir DIR]\n"
    "               [--socket PATH] [--owner UID|NAME] [--debug] [--ready-fd N] [--version]\n"
    "               [--doctor] [--help]\n"
    "\n"
    "The daemon that owns microVMs, images and guest sessions. `banger` starts it when it is\n"
    "needed; it runs until `banger daemon stop`, SIGTERM or SIGINT. With --doctor it only prints\n"
    "what `banger doctor` shows, as JSON.\n";

enum { OPT_DEBUG = 100, OPT_OWNER, OPT_READY_FD, OPT_VERSION, OPT_DOCTOR, OPT_HELP };

struct options {
    int ready_fd;
    bool debug;
    bool doctor;
    unsigned paths_given; /* a bit for each of path_settings */
};

/* As far as paths_resolve is concerned, whom sudo acts for. */
static int set_owner(const char *text)
{
    const struct passwd *user;
    char uid_text[24];
    uint64_t uid;

    if (str_to_u64(text, UINT32_MAX - 2, &uid) < 0) {
        user = getpwnam(text);
        if (!user) {
            (void)fprintf(stderr, "bangerd: there is no user '%s'\n", text);
            return -1;
        }
        uid = user->pw_uid;
    }
    if (geteuid() != 0 && geteuid() != uid) {
        (void)fprintf(stderr, "bangerd: only root can start a daemon for user '%s'\n", text);
        return -1;
    }
    (void)snprintf(uid_text, sizeof(uid_text), "%llu", (unsigned long long)uid);
    (void)setenv("SUDO_UID", uid_text, 1);
    return 0;
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *ret)
{
    struct option longs[PATH_SETTINGS + 7] = {{0}};
    size_t n = 0;
    uint64_t fd;
    int c;

    for (; n < PATH_SETTINGS; n++) {
        longs[n] = (struct option){path_settings[n].flag, required_argument, NULL, (int)n + 1};
    }
    longs[n++] = (struct option){"owner", required_argument, NULL, OPT_OWNER};
    longs[n++] = (struct option){"debug", no_argument, NULL, OPT_DEBUG};
    longs[n++] = (struct option){"ready-fd", required_argument, NULL, OPT_READY_FD};
    longs[n++] = (struct option){"version", no_argument, NULL, OPT_VERSION};
    longs[n++] = (struct option){"doctor", no_argument, NULL, OPT_DOCTOR};
    longs[n++] = (struct option){"help", no_argument, NULL, OPT_HELP};
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c >= 1 && c <= (int)PATH_SETTINGS) {
            /* As far as paths_resolve is concerned, these flags are variables. */
            (void)setenv(path_settings[c - 1].variable, optarg, 1);
            ret->paths_given |= 1u << (c - 1);
        } else if (c == OPT_OWNER) {
            if (set_owner(optarg) < 0) {
                return 2;
            }
        } else if (c == OPT_DEBUG) {
            ret->debug = true;
        } else if (c == OPT_DOCTOR) {
            ret->doctor = true;
        } else if (c == OPT_READY_FD && str_to_u64(optarg, 1023, &fd) == 0) {
            ret->ready_fd = (int)fd;
        } else if (c == OPT_VERSION) {
            printf("bangerd %s\n", BANGER_VERSION);
            return 0;
        } else if (c == OPT_HELP) {
            (void)fputs(usage, stdout);
            return 0;
        } else {
            (void)fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "bangerd: unexpected argument '%s'\n%s", argv[optind], usage);
        return 2;
    }
    return -1;
}

/* Helper programs lie beside this one in a build tree, in ../libexec/banger when installed. */
static char *find_helper(const char *name)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *dir;
    char *path;

    self[n > 0 ? n : 0] = '\0';
    dir = dirname(self);
    path = x_asprintf("%s/%s", dir, name);
    if (access(path, R_OK) == 0) {
        return path;
    }
    free(path);
    return x_asprintf("%s/../libexec/banger/%s", dir, name);
}

/* Less than a pipe takes at once; who waits may have gone. */
static void say_ready(int fd, const char *text)
{
    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        (void)close(fd);
    }
}

/* Who starts VMMs. With root that is the helper, and this process is its owner's from then on. */
static int make_host(const struct paths *paths, const char *helper, const char *launcher,
                     struct host **ret_host, struct err *err)
{
    if (geteuid() == 0) {
        return split_from_helper(paths, helper, ret_host, err);
    }
    if (split_not(err) < 0) {
        return -1;
    }
    *ret_host = host_local_new(
        &(struct host_local_params){.launcher = launcher, .name = paths->runtime_dir});
    return 0;
}

/* The checks, by this process, which becomes no daemon: as its owner, and with nothing of root's.
 */
static int run_doctor(const struct paths *paths, struct daemon_params *params, struct err *err)
{
    _cleanup_config_ struct config config = {0};
    _cleanup_json_ json_t *report = NULL;
    _cleanup_free_ char *text = NULL;
    struct err config_err, ignored;
    bool valid;

    if (paths_become_owner(paths, err) < 0 || split_not(err) < 0) {
        return -1;
    }
    valid = config_load(paths->config, &config, &config_err) == 0;
    if (!valid && config_parse(paths->config, "", 0, &config, &ignored) < 0) {
        abort(); /* there is nothing in it to be wrong */
    }
    params->config = &config;
    report = daemon_doctor(params, valid ? NULL : &config_err);
    text = json_print(report);
    return puts(text) < 0 || fflush(stdout) != 0
               ? err_set_errno(err, ERR_IO, errno, "cannot write to standard output")
               : 0;
}

static int run(struct options *o, struct err *err)
{
    _cleanup_free_ char *agent = find_helper("banger-agent");
    _cleanup_free_ char *mkroot = find_helper("banger-mkroot");
    _cleanup_free_ char *helper = find_helper("banger-helper");
    _cleanup_free_ char *launcher = find_helper("banger-launch");
    _cleanup_free_ char *fakevmm = find_helper(FAKE_PROGRAM);
    const char *fake = getenv(FAKE_VARIABLE);
    _cleanup_config_ struct config config = {0};
    _cleanup_paths_ struct paths paths = {0};
    _cleanup_json_ json_t *path_list = NULL;
    struct paths_env env = paths_process_env();
    _cleanup_(host_free_p) struct host *host = NULL;
    _cleanup_close_ int listen_fd = -1;
    struct daemon_params params = {.paths = &paths,
                                   .vmm = &vmm_qemu_ops,
                                   .listen_fd = -1,
                                   .fakevmm_path = fake && str_eq(fake, "1") ? fakevmm : NULL,
                                   .agent_path = agent,
                                   .mkroot_path = mkroot,
                                   .helper_path = helper,
                                   .launcher_path = launcher};
    struct daemon *d = NULL;
    int r;

    if (paths_resolve(&env, &paths, err) < 0) {
        return -1;
    }
    params.has_root = geteuid() == 0;
    if (o->doctor) {
        return run_doctor(&paths, &params, err);
    }
    path_list = path_settings_json(&env, &paths, o->paths_given);
    if (supervisor_take_socket(paths.socket, &listen_fd, err) < 0 ||
        make_host(&paths, helper, launcher, &host, err) < 0 ||
        config_load(paths.config, &config, err) < 0 || split_check_uids(host, &config, err) < 0) {
        return -1;
    }
    params.path_settings = path_list;
    params.config = &config;
    params.host = host;
    params.listen_fd = STEAL_FD(listen_fd);
    if (daemon_open(&params, &d, err) < 0) {
        return -1;
    }
    log_info("bangerd %s listens on '%s'", BANGER_VERSION, paths.socket);
    supervisor_ready(BANGER_VERSION);
    say_ready(o->ready_fd, "ok\n");
    o->ready_fd = -1; /* closed */
    r = daemon_serve(d, err);
    daemon_close(d);
    return r;
}

/* mke2fs lies where ordinary users do not look. */
static void extend_path(void)
{
    const char *path = getenv("PATH");
    _cleanup_free_ char *longer =
        x_asprintf("%s:/usr/local/sbin:/usr/sbin:/sbin", path && *path ? path : "/usr/bin:/bin");

    (void)setenv("PATH", longer, 1);
}

int main(int argc, char **argv)
{
    struct options o = {.ready_fd = -1};
    struct err err = {0};
    sigset_t all;
    int status = parse_options(argc, argv, &o);

    /* A few allocation arenas are enough, and dozens of threads would keep one each. */
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_TRIM_THRESHOLD, 256 * 1024);
    (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);

    if (status >= 0) {
        return status;
    }
    if (o.ready_fd >= 0) {
        (void)fcntl(o.ready_fd, F_SETFD, FD_CLOEXEC);
    }
    (void)umask(077);
    extend_path();
    log_init(o.debug ? LOG_DEBUG : LOG_INFO);
    /* Before any thread: signals are read from a descriptor, SIGPIPE is an error code. */
    sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    if (run(&o, &err) < 0) {
        _cleanup_free_ char *text =
            x_asprintf("%s%s%s\n", err.message, err.hint[0] ? "\nhint: " : "", err.hint);

        log_error("%s", err.message);
        supervisor_failed(err.message);
        say_ready(o.ready_fd, text);
        return err.code == ERR_INVALID ? 2 : 1;
    }
    return 0;
}
