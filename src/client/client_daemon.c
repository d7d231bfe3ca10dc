/* Finding a daemon that listens, and starting one. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/spawn.h"
#include "base/str.h"
#include "client/client.h"
#include "client/client_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#define START_MS 20000
#define LOCK_SECONDS 30 /* as long as somebody else's start may take, and a bit */
#define CONNECT_SECONDS 10
#define READY_FD 3
#define READY_TEXT_MAX 4096

extern char **environ;

/* A full backlog makes a non-blocking connect fail; a blocking one waits for its turn. */
static int connect_waiting(int dir_fd, const char *name)
{
    struct timeval limit = {.tv_sec = CONNECT_SECONDS};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir_fd,
                           name) >= (int)sizeof(addr.sun_path)) {
        return fd < 0 ? -errno : -ENAMETOOLONG;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        return -errno;
    }
    return STEAL_FD(fd);
}

static int connect_path(const char *path)
{
    _cleanup_free_ char *for_dir = x_strdup(path);
    _cleanup_free_ char *for_name = x_strdup(path);
    const char *name = basename(for_name);
    _cleanup_close_ int dir_fd = fs_open_dir(AT_FDCWD, dirname(for_dir), false);
    int fd;

    if (dir_fd < 0) {
        return dir_fd;
    }
    fd = fs_unix_connect(dir_fd, name);
    return fd == -EAGAIN ? connect_waiting(dir_fd, name) : fd;
}

int client_open(const struct paths *paths, pid_t *ret_pid, struct err *err)
{
    _cleanup_close_ int fd = connect_path(paths->socket);
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (fd == -ENOENT || fd == -ECONNREFUSED || fd == -ENOTDIR) {
        err_set(err, ERR_NOT_RUNNING, "no daemon listens on '%s'", paths->socket);
        return err_hint(err, "commands that need it start it");
    }
    if (fd < 0) {
        return err_set_errno(err, fd == -EACCES || fd == -EPERM ? ERR_DENIED : ERR_IO, fd,
                             "cannot connect to the daemon on '%s'", paths->socket);
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot tell who listens on '%s'", paths->socket);
    }
    if (peer.uid != paths->owner_uid && peer.uid != 0) {
        err_set(err, ERR_DENIED, "'%s' is a socket of user %u, not of user %u", paths->socket,
                peer.uid, paths->owner_uid);
        return err_hint(err, "choose a socket of yours with --socket or BANGER_SOCKET");
    }
    *ret_pid = peer.pid;
    return STEAL_FD(fd);
}

char *client_find_daemon(void)
{
    static const char *const places[] = {"bangerd", "../libexec/banger/bangerd",
                                         "../libexec/bangerd"};
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    if (n <= 0) {
        return x_strdup("bangerd");
    }
    exe[n] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        _cleanup_free_ char *copy = x_strdup(exe);
        char *path = x_asprintf("%s/%s", dirname(copy), places[i]);

        if (access(path, X_OK) == 0) {
            return path;
        }
        free(path);
    }
    return x_strdup("bangerd");
}

char **client_daemon_environment(const struct paths *paths)
{
    static const char name[] = "BANGER_SOCKET=";
    size_t count = 0, n = 0;
    char **env;

    while (environ[count]) {
        count++;
    }
    env = x_calloc(count + 2, sizeof(*env));
    for (size_t i = 0; i < count; i++) {
        if (!str_starts_with(environ[i], name)) {
            env[n++] = x_strdup(environ[i]);
        }
    }
    env[n] = x_asprintf("%s%s", name, paths->socket);
    return env;
}

void client_environment_free(char **env)
{
    for (char **e = env; *e; e++) {
        free(*e);
    }
    free(env);
}

static void on_alarm(int sig)
{
    (void)sig;
}

/* flock(2) knows no deadline; an alarm ends its wait. The fd or -errno. */
static int lock_start(int runtime_fd)
{
    struct sigaction action = {.sa_handler = on_alarm}, before;
    _cleanup_close_ int fd =
        openat(runtime_fd, "start.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int r;

    if (fd < 0) {
        return -errno;
    }
    sigaction(SIGALRM, &action, &before);
    (void)alarm(LOCK_SECONDS);
    r = flock(fd, LOCK_EX) < 0 ? -errno : 0;
    (void)alarm(0);
    sigaction(SIGALRM, &before, NULL);
    return r == 0 ? STEAL_FD(fd) : r == -EINTR ? -ETIMEDOUT : r;
}

/* Reads until a newline, the end of the stream or the deadline. 0 or -errno. What the daemon says
 * comes in one piece, of more than one line perhaps. */
static int read_ready(int fd, struct buf *text)
{
    int64_t deadline = clock_mono_ms() + START_MS;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - clock_mono_ms();
        int r = left > 0 ? poll(&p, 1, (int)left) : 0;
        ssize_t n;

        if (r == 0) {
            return -ETIMEDOUT;
        }
        if (r < 0 && errno != EINTR) {
            return -errno;
        }
        n = r > 0 ? buf_read_fd(text, fd, READY_TEXT_MAX) : -EAGAIN;
        if (n == 0 || n == -ENOBUFS || memchr(buf_head(text), '\n', text->len)) {
            return 0;
        }
        if (n < 0 && n != -EAGAIN) {
            return (int)n;
        }
    }
}

/* The daemon's last word is a message, and maybe a line with a hint. */
static int not_started(const struct paths *paths, const char *word, struct err *err)
{
    static const char hint_line[] = "\nhint: ";
    const char *hint = strstr(word, hint_line);
    int len = (int)(hint ? (size_t)(hint - word) : strlen(word));

    err_set(err, ERR_IO, "the daemon did not start: %.*s", len, word);
    return hint ? err_hint(err, "%s", hint + strlen(hint_line))
                : err_hint(err, "see %s/bangerd.log", paths->state_dir);
}

/* Waits for the daemon's word: 1 = it listens, 0 = another one runs, -1. */
static int await_ready(const struct paths *paths, int ready_fd, char **ret_word, struct err *err)
{
    _cleanup_buf_ struct buf text = {0};
    _cleanup_free_ char *word = NULL;
    int r;

    buf_init(&text, READY_TEXT_MAX);
    r = read_ready(ready_fd, &text);
    if (r == -ETIMEDOUT) {
        return not_started(paths, "it said nothing for 20 s", err);
    }
    if (r < 0) {
        return not_started(paths, strerror(-r), err);
    }
    word = buf_steal_str(&text);
    for (size_t len = strlen(word); len > 0 && word[len - 1] == '\n'; len--) {
        word[len - 1] = '\0';
    }
    if (str_eq(word, "ok")) {
        return 1;
    }
    if (strstr(word, "already running")) {
        *ret_word = STEAL_PTR(word);
        return 0;
    }
    return not_started(paths, word[0] ? word : "it ended without a word", err);
}

static int spawn(const struct paths *paths, int log_fd, int ready_fd, struct err *err)
{
    _cleanup_free_ char *program = client_find_daemon();
    const char *argv[] = {program, "--ready-fd", "3", NULL};
    const struct spawn_fd fds[] = {{log_fd, 1}, {log_fd, 2}, {ready_fd, READY_FD}};
    _cleanup_close_ int cwd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int pidfd = -1;
    char **env = client_daemon_environment(paths);
    struct err ignored;
    pid_t pid;
    bool root;
    int r;

    /* The daemon must not keep the caller's directory busy, and spawn has no chdir. */
    r = cwd >= 0 && chdir("/") < 0 ? -errno : 0;
    /* Under sudo the daemon is to have root, too, and gives it up by itself. */
    root = paths_be_root_again();
    if (r == 0) {
        r = spawn_process(&(struct spawn_params){.argv = argv,
                                                 .env = (const char *const *)env,
                                                 .fds = fds,
                                                 .fd_count = ARRAY_LEN(fds),
                                                 .new_session = true},
                          &pid, &pidfd);
    }
    if (root && paths_act_as_owner(paths, &ignored) < 0) {
        abort(); /* nothing may be done as root that is to be the user's */
    }
    if (cwd >= 0 && fchdir(cwd) < 0 && r == 0) {
        r = -errno;
    }
    client_environment_free(env);
    if (r < 0) {
        err_set_errno(err, ERR_IO, r, "cannot start the daemon: %s", program);
        return err_hint(err, "bangerd belongs beside banger, or in PATH");
    }
    return 0;
}

static int launch(const struct paths *paths, int state_fd, char **ret_word, struct err *err)
{
    _cleanup_close_ int log_fd = openat(
        state_fd, "bangerd.log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    _cleanup_close_ int ready_read = -1, ready_write = -1;
    int pipe_fds[2];

    if (log_fd < 0) {
        err_set_errno(err, ERR_IO, errno, "cannot open '%s/bangerd.log'", paths->state_dir);
        return err_hint(err, "the state directory must be writable and have free space");
    }
    if (geteuid() != paths->owner_uid && fchown(log_fd, paths->owner_uid, (gid_t)-1) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot give away '%s/bangerd.log'",
                             paths->state_dir);
    }
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make a pipe");
    }
    ready_read = pipe_fds[0];
    ready_write = pipe_fds[1];
    if (spawn(paths, log_fd, ready_write, err) < 0) {
        return -1;
    }
    close_p(&ready_write);
    return await_ready(paths, ready_read, ret_word, err);
}

int client_start_daemon(const struct paths *paths, pid_t *ret_pid, struct err *err)
{
    _cleanup_close_ int runtime_fd = paths_open_dir(paths, paths->runtime_dir, err);
    _cleanup_close_ int state_fd =
        runtime_fd >= 0 ? paths_open_dir(paths, paths->state_dir, err) : -1;
    _cleanup_close_ int lock_fd = -1;
    _cleanup_free_ char *word = NULL;
    int fd;

    if (state_fd < 0) {
        return -1;
    }
    lock_fd = lock_start(runtime_fd);
    if (lock_fd < 0) {
        return err_set_errno(err, ERR_IO, lock_fd, "cannot lock '%s/start.lock'",
                             paths->runtime_dir);
    }
    /* Whoever held the lock before us has probably started it. */
    fd = client_open(paths, ret_pid, err);
    if (fd >= 0 || err->code != ERR_NOT_RUNNING) {
        return fd;
    }
    if (launch(paths, state_fd, &word, err) < 0) {
        return -1;
    }
    fd = client_open(paths, ret_pid, err);
    if (fd < 0 && word) {
        err_set(err, ERR_CONFLICT, "the daemon of '%s' does not listen on '%s': %s",
                paths->state_dir, paths->socket, word);
        return err_hint(err, "is it on another socket (BANGER_SOCKET), or just ending?");
    }
    return fd;
}
