#include "cli/signals.h"

#include "base/attr.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int open_signals(const int *wanted, size_t count)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < count; i++) {
        struct sigaction action;

        /* Linux queues even an ignored signal while it is blocked. */
        if (sigaction(wanted[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
            (void)sigaddset(&set, wanted[i]);
        }
    }
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        return -1;
    }
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int signals_open(void)
{
    static const int wanted[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

    (void)signal(SIGPIPE, SIG_IGN);
    return open_signals(wanted, ARRAY_LEN(wanted));
}

int signals_open_terminal(bool raw)
{
    static const int wanted[] = {SIGWINCH, SIGTSTP, SIGCONT};

    return open_signals(wanted, raw ? ARRAY_LEN(wanted) : 1);
}

int signals_read(int fd)
{
    struct signalfd_siginfo info;
    ssize_t n;

    do {
        n = read(fd, &info, sizeof(info));
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}
