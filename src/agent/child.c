#include "agent/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

#define CHILD_UMASK 022
/* Wanted for what a command writes. Each time that command and agent take turns, all that the CPU
 * has cached of one's memory goes; for an emulated one that is dear. */
#define PIPE_BYTES (256 * 1024)

enum stage {
    STAGE_DONE,
    STAGE_SETUP,
    STAGE_USER,
    STAGE_CWD,
    STAGE_EXEC,
};

/* All that the child needs, made before vfork. The child borrows the agent's memory: it writes
 * nothing but stage, error and the path buffer. */
struct plan {
    const struct spec *spec;
    const struct child_env *env;
    const struct user *user;
    const char *search; /* $PATH */
    int fds[3];
    bool tty;
    char **argv;
    const char *shell; /* the login shell to execute, or NULL */
    char *shell_argv[2];
    char shell_name[USER_STRING_MAX + 1];
    volatile enum stage stage;
    volatile int error;
    char path[PATH_MAX];
};

static _noreturn_ void child_fail(struct plan *plan, enum stage stage, int error)
{
    plan->stage = stage;
    plan->error = error;
    _exit(127);
}

/* One attempt; returns the errno. A file that is there but whose interpreter is missing also
 * gives ENOENT: that is told as ENOEXEC's neighbour, not as a command that does not exist. */
static int try_exec(struct plan *plan, const char *path)
{
    (void)execve(path, plan->argv, plan->spec->envp);
    if (errno == ENOENT && access(path, F_OK) == 0) {
        return ELIBACC;
    }
    return errno;
}

/* Returns the errno that describes best why nothing was executed. */
static int search_exec(struct plan *plan)
{
    const char *name = plan->argv[0];
    size_t name_len = strlen(name);
    int found = ENOENT;

    if (plan->spec->files) {
        (void)syscall(SYS_execveat, plan->env->self_fd, "", plan->spec->argv, plan->spec->envp,
                      AT_EMPTY_PATH);
        return errno;
    }
    if (plan->shell) {
        return try_exec(plan, plan->shell);
    }
    if (!name[0]) {
        return ENOENT;
    }
    if (strchr(name, '/')) {
        return try_exec(plan, name);
    }
    for (const char *p = plan->search, *end; p; p = *end ? end + 1 : NULL) {
        size_t len;
        int error;

        end = strchrnul(p, ':');
        len = (size_t)(end - p);
        if (len + 1 + name_len >= sizeof(plan->path)) {
            continue;
        }
        memcpy(plan->path, p, len);
        if (len > 0) {
            plan->path[len++] = '/';
        }
        memcpy(plan->path + len, name, name_len + 1);
        error = try_exec(plan, plan->path);
        if (error == EACCES || error == ELIBACC) {
            found = found == ENOENT ? error : found;
        } else if (error != ENOENT && error != ENOTDIR && error != ELOOP) {
            return error;
        }
    }
    return found;
}

/* Raw system calls: libc's would look for threads to change as well. */
static void become_user(struct plan *plan)
{
    const struct user *user = plan->user;

    if (plan->env->keep_user) {
        return;
    }
    if (syscall(SYS_setgroups, user->group_count, user->groups) < 0 ||
        syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0 ||
        syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0) {
        child_fail(plan, STAGE_USER, errno);
    }
}

static _noreturn_ void child_run(struct plan *plan)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;

    if (setsid() < 0 || (plan->tty && ioctl(plan->fds[0], TIOCSCTTY, 0) < 0)) {
        child_fail(plan, STAGE_SETUP, errno);
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(plan->fds[i], i) < 0) {
            child_fail(plan, STAGE_SETUP, errno);
        }
    }
    if (setrlimit(RLIMIT_NOFILE, &plan->env->nofile) < 0) {
        child_fail(plan, STAGE_SETUP, errno);
    }
    (void)umask(CHILD_UMASK);
    become_user(plan);
    if (plan->spec->cwd) {
        if (chdir(plan->spec->cwd) < 0) {
            child_fail(plan, STAGE_CWD, errno);
        }
    } else if (chdir(plan->user->home) < 0 && chdir("/") < 0) {
        child_fail(plan, STAGE_CWD, errno);
    }
    /* The only signal that the agent ignores, and the only ones that it blocks. */
    (void)sigaction(SIGPIPE, &by_default, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    child_fail(plan, STAGE_EXEC, search_exec(plan));
}

static int explain(const struct plan *plan, struct failure *f)
{
    const struct spec *spec = plan->spec;
    const char *name = plan->shell ? plan->shell : plan->argv[0];
    int error = plan->error;

    switch (plan->stage) {
    case STAGE_CWD:
        return failure_set(f, FAILURE_AGENT, error, "working directory '%.256s'",
                           spec->cwd ? spec->cwd : "/");
    case STAGE_USER:
        return failure_set(f, FAILURE_AGENT, error, "cannot become user '%.64s'",
                           spec->user ? spec->user : "root");
    case STAGE_EXEC:
        if (error == ELIBACC) {
            (void)failure_set(f, FAILURE_NOT_EXECUTABLE, ENOENT,
                              "'%.256s': its interpreter is missing", name);
            return -ENOENT;
        }
        if (error == ENOENT || error == ENOTDIR) {
            return failure_set(f, FAILURE_NOT_FOUND, error, "'%.256s'%s", name,
                               strchr(name, '/') ? "" : ": not found in PATH");
        }
        return failure_set(f, FAILURE_NOT_EXECUTABLE, error, "'%.256s'", name);
    default:
        return failure_set(f, FAILURE_AGENT, error, "cannot start '%.256s'", name);
    }
}

/* Runs the plan. Returns the pid, or negative with *f set. */
static pid_t start(struct plan *plan, struct failure *f)
{
    pid_t pid = vfork();

    if (pid == 0) {
        child_run(plan);
    }
    if (pid < 0) {
        return failure_set(f, FAILURE_AGENT, errno, "cannot make a process");
    }
    if (plan->stage != STAGE_DONE) {
        (void)waitpid(pid, NULL, 0);
        return explain(plan, f);
    }
    return pid;
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* A pipe of which `ours` (0: we read, 1: we write) is nonblocking. The other end belongs to the
 * user, so that he can open /dev/stdout again. */
static int make_pipe(const struct user *user, int ours, int *ret_ours, int *ret_theirs)
{
    int fds[2], r;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    r = set_nonblocking(fds[ours]);
    if (r < 0) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return r;
    }
    (void)!fchown(fds[!ours], user->uid, user->gid);
    if (ours == 0) {
        (void)fcntl(fds[0], F_SETPIPE_SZ, PIPE_BYTES); /* else it is smaller, and slower */
    }
    *ret_ours = fds[ours];
    *ret_theirs = fds[!ours];
    return 0;
}

static int make_terminal(const struct spec *spec, const struct user *user, int *ret_in,
                         int *ret_out, int *ret_slave)
{
    struct winsize size = {.ws_row = spec->rows, .ws_col = spec->columns};
    struct termios modes;
    _cleanup_close_ int master = -1, copy = -1, slave = -1;
    int unlocked = 0;

    master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0) {
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    }
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0) {
        return -errno;
    }
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || ioctl(master, TIOCSWINSZ, &size) < 0 || tcgetattr(slave, &modes) < 0) {
        return -errno;
    }
    /* The kernel's own modes are a keyboard's, except that erasing takes one byte away. */
    modes.c_iflag |= IUTF8;
    if (tcsetattr(slave, TCSANOW, &modes) < 0) {
        return -errno;
    }
    (void)!fchown(slave, user->uid, (gid_t)-1);
    copy = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) {
        return -errno;
    }
    *ret_in = STEAL_FD(copy);
    *ret_out = STEAL_FD(master);
    *ret_slave = STEAL_FD(slave);
    return 0;
}

/* Names the user's shell as a login shell is named: bash is -bash. An image need not have the shell
 * that its passwd file names. */
static void take_login_shell(struct plan *plan, struct user *user)
{
    const char *base;

    if (access(user->shell, X_OK) < 0) {
        (void)snprintf(user->shell, sizeof(user->shell), "/bin/sh");
    }
    base = strrchr(user->shell, '/');
    (void)snprintf(plan->shell_name, sizeof(plan->shell_name), "-%s",
                   base ? base + 1 : user->shell);
    plan->shell = user->shell;
    plan->shell_argv[0] = plan->shell_name;
    plan->argv = plan->shell_argv;
}

/* Their ends, closed when the child has them. */
struct theirs {
    int fds[3];
};

static void theirs_close_p(struct theirs *t)
{
    for (int i = 0; i < 3; i++) {
        close_p(&t->fds[i]);
    }
}

static void child_close(struct child *c)
{
    close_p(&c->in);
    close_p(&c->out);
    close_p(&c->err);
}

static int make_streams(const struct spec *spec, const struct user *user, struct child *ours,
                        struct theirs *theirs)
{
    int r;

    if (spec->tty) {
        return make_terminal(spec, user, &ours->in, &ours->out, &theirs->fds[0]);
    }
    if (spec->stdin_pipe) {
        r = make_pipe(user, 1, &ours->in, &theirs->fds[0]);
    } else {
        theirs->fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        r = theirs->fds[0] < 0 ? -errno : 0;
    }
    if (r == 0) {
        r = make_pipe(user, 0, &ours->out, &theirs->fds[1]);
    }
    if (r == 0) {
        r = make_pipe(user, 0, &ours->err, &theirs->fds[2]);
    }
    return r;
}

static int find_user(const struct spec *spec, struct user *ret, struct failure *f)
{
    const char *who = spec->user ? spec->user : "root";
    const char *unknown;
    int r = user_find(ret, who, "/etc", &unknown);

    if (r == -ENOENT) {
        *f = (struct failure){.status = FAILURE_AGENT, .error = ENOENT};
        (void)snprintf(f->text, sizeof(f->text), "'%.128s': the guest knows no such %s", who,
                       unknown);
    } else if (r < 0) {
        (void)failure_set(f, FAILURE_AGENT, -r, "user '%.128s'", who);
    }
    return r;
}

int child_start(struct spec *spec, const struct child_env *env, struct child *ret,
                struct failure *ret_failure)
{
    _cleanup_(theirs_close_p) struct theirs theirs = {{-1, -1, -1}};
    struct child ours = {.in = -1, .out = -1, .err = -1};
    struct plan plan = {.spec = spec, .env = env, .tty = spec->tty, .argv = spec->argv};
    struct user user;
    int r = find_user(spec, &user, ret_failure);

    if (r < 0) {
        return r;
    }
    r = make_streams(spec, &user, &ours, &theirs);
    if (r < 0) {
        child_close(&ours);
        return failure_set(ret_failure, FAILURE_AGENT, -r, "cannot make the command's streams");
    }
    if (!spec->argv[0]) {
        take_login_shell(&plan, &user);
    }
    spec_set_defaults(spec, &user);
    plan.user = &user;
    plan.search = spec_getenv(spec, "PATH");
    for (int i = 0; i < 3; i++) {
        plan.fds[i] = theirs.fds[spec->tty ? 0 : i];
    }
    ours.pid = start(&plan, ret_failure);
    if (ours.pid < 0) {
        child_close(&ours);
        return ours.pid;
    }
    *ret = ours;
    return 0;
}
