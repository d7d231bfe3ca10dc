#include "agent/init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/wait.h>

/* systemd(1): starts poweroff.target. Its SIGRTMIN is glibc's, 34; musl's is another. */
#define SYSTEMD_POWEROFF (34 + 4)

static _noreturn_ void end_with(pid_t agent)
{
    pid_t pid;

    do {
        pid = wait(NULL);
    } while (pid != agent && (pid > 0 || errno == EINTR));
    (void)reboot(RB_AUTOBOOT);
    for (;;) {
        (void)pause();
    }
}

/* In the first process. What the kernel gave it, init gets: descriptors 0 to 2 on the console, the
 * environment with the words of the command line that the kernel did not know. */
static _noreturn_ void become_init(const char *path, int go_fd, int result_fd, pid_t agent)
{
    char *argv[] = {(char *)path, NULL};
    char go;
    ssize_t n;
    int error;

    while ((n = read(go_fd, &go, 1)) != 0) {
        if (n == 1) {
            (void)execve(path, argv, environ);
            error = errno;
            (void)!write(result_fd, &error, sizeof(error));
        }
    }
    end_with(agent);
}

int init_fork(struct boot *b, struct init *init)
{
    int go[2], result[2];
    pid_t pid;

    if (pipe2(go, O_CLOEXEC) < 0) {
        return boot_fail(b, errno, "make a pipe");
    }
    if (pipe2(result, O_CLOEXEC) < 0) {
        return boot_fail(b, errno, "make a pipe");
    }
    pid = fork();
    if (pid < 0) {
        return boot_fail(b, errno, "make a process");
    }
    if (pid > 0) {
        (void)close(go[1]);
        (void)close(result[0]);
        become_init(init->path, go[0], result[1], pid);
    }
    (void)close(go[0]);
    (void)close(result[1]);
    init->go_fd = go[1];
    init->result_fd = result[0];
    /* Neither init's signals to its group nor a hang-up of the console are for us. */
    (void)setsid();
    (void)prctl(PR_SET_NAME, "banger-agent");
    return 0;
}

int init_begin(struct init *init)
{
    int error = 0;
    ssize_t n;

    if (init->begun) {
        return 0;
    }
    n = write(init->go_fd, "", 1);
    while (n == 1 || (n < 0 && errno == EINTR)) {
        n = read(init->result_fd, &error, sizeof(error));
        if (n >= 0) {
            break;
        }
    }
    if (n < 0) {
        return -errno;
    }
    if (n == sizeof(error)) {
        return -error;
    }
    close_p(&init->go_fd);
    close_p(&init->result_fd);
    init->begun = true;
    return 0;
}

static _noreturn_ void run_poweroff(const char *path)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;

    (void)setsid();
    (void)sigaction(SIGPIPE, &by_default, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execl(path, "poweroff", (char *)NULL);
    _exit(127);
}

enum init_asked init_ask_poweroff(pid_t *ret_pid)
{
    static const char *const programs[] = {"/sbin/poweroff", "/usr/sbin/poweroff", "/bin/poweroff",
                                           "/usr/bin/poweroff"};

    /* sd_booted(3). Its own program would need its bus, which comes later than the signal works. */
    if (access("/run/systemd/system", F_OK) == 0) {
        return kill(1, SYSTEMD_POWEROFF) == 0 ? INIT_TOLD : INIT_NONE;
    }
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        pid_t pid;

        if (access(programs[i], X_OK) < 0) {
            continue;
        }
        pid = fork();
        if (pid == 0) {
            run_poweroff(programs[i]);
        }
        if (pid > 0) {
            *ret_pid = pid;
            return INIT_ASKING;
        }
    }
    return INIT_NONE;
}
