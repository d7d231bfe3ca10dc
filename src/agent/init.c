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

/* In the first process. What the kernel gave it, init gets: descriptors 0 to 2 on the console, the
 * environment with the words of the command line that the kernel did not know. */
static _noreturn_ void become_init(const char *path, int say_fd, pid_t agent)
{
    char *argv[] = {(char *)path, NULL};
    pid_t pid;
    int error;

    (void)execve(path, argv, environ);
    error = errno;
    (void)!write(say_fd, &error, sizeof(error));
    do {
        pid = wait(NULL);
    } while (pid != agent && (pid > 0 || errno == EINTR));
    (void)reboot(RB_AUTOBOOT);
    for (;;) {
        (void)pause();
    }
}

int init_start(struct boot *b, const char *path)
{
    int fds[2], error = 0;
    ssize_t n;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return boot_fail(b, errno, "make a pipe");
    }
    pid = fork();
    if (pid > 0) {
        become_init(path, fds[1], pid);
    }
    (void)close(fds[1]);
    if (pid < 0) {
        error = errno;
        (void)close(fds[0]);
        return boot_fail(b, error, "make a process");
    }
    /* Neither init's signals to its group nor a hang-up of the console are for us. */
    (void)setsid();
    (void)prctl(PR_SET_NAME, "banger-agent");
    do {
        n = read(fds[0], &error, sizeof(error));
    } while (n < 0 && errno == EINTR);
    (void)close(fds[0]);
    return n == sizeof(error) ? boot_fail(b, error, "cannot run the image's init '%s'", path) : 0;
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
