/* Checks where no daemon answers: a bangerd that does them and ends. */
#include "base/clock.h"
#include "base/spawn.h"
#include "base/str.h"
#include "client/client.h"
#include "client/client_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOCTOR_MS 60000
#define OUTPUT_MAX (1024U * 1024)

static int spawn(const struct paths *paths, const char *program, int out_fd, pid_t *ret_pid,
                 int *ret_pidfd)
{
    const char *argv[] = {program, "--doctor", NULL};
    const struct spawn_fd fds[] = {{out_fd, STDOUT_FILENO}, {out_fd, STDERR_FILENO}};
    char **env = client_daemon_environment(paths);
    struct err ignored;
    /* Under sudo it is to find what a daemon would, and gives up root by itself. */
    bool root = paths_be_root_again();
    int r = spawn_process(
        &(struct spawn_params){
            .argv = argv, .env = (const char *const *)env, .fds = fds, .fd_count = ARRAY_LEN(fds)},
        ret_pid, ret_pidfd);

    if (root && paths_act_as_owner(paths, &ignored) < 0) {
        abort(); /* nothing may be done as root that is to be the user's */
    }
    client_environment_free(env);
    return r;
}

/* All that it says, until its end or the deadline. 0 or -errno. */
static int read_all(int fd, struct buf *text)
{
    int64_t deadline = clock_mono_ms() + DOCTOR_MS;

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
        n = r > 0 ? buf_read_fd(text, fd, OUTPUT_MAX) : -EAGAIN;
        if (n == 0 || (n < 0 && n != -EAGAIN)) {
            return (int)n;
        }
    }
}

static int parse(struct buf *out, int status, const char *program, json_t **ret, struct err *err)
{
    _cleanup_free_ char *text = buf_steal_str(out);
    _cleanup_json_ json_t *list = NULL;
    struct err ignored;

    if (status == 0 && json_parse(text, strlen(text), &list, &ignored) == 0 &&
        json_is_array(list)) {
        *ret = STEAL_PTR(list);
        return 0;
    }
    text[strcspn(text, "\n")] = '\0';
    return err_set(err, ERR_IO, "'%s --doctor' failed: %.500s", program,
                   text[0] ? text : "it ended without a word");
}

int client_doctor(const struct paths *paths, json_t **ret_findings, struct err *err)
{
    _cleanup_free_ char *program = client_find_daemon();
    _cleanup_close_ int read_fd = -1, write_fd = -1, pidfd = -1;
    _cleanup_buf_ struct buf out = {.max = OUTPUT_MAX};
    int fds[2], r, status = -1;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make a pipe");
    }
    read_fd = fds[0];
    write_fd = fds[1];
    r = spawn(paths, program, write_fd, &pid, &pidfd);
    if (r < 0) {
        err_set_errno(err, ERR_IO, r, "cannot start the daemon's program '%s'", program);
        return err_hint(err, "bangerd belongs beside banger, or in PATH");
    }
    close_p(&write_fd);
    r = read_all(read_fd, &out);
    if (r < 0) {
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return r < 0 ? err_set_errno(err, ERR_IO, r, "'%s --doctor'", program)
                 : parse(&out, status, program, ret_findings, err);
}
