/* Raw mode on a pseudo-terminal, and what of our terminal a guest is told. */
#include "base/cancel.h"
#include "base/str.h"
#include "cli/terminal.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct pair {
    int master, slave;
    struct termios before;
};

static int make_pair(void **state)
{
    struct pair *p = x_calloc(1, sizeof(*p));
    struct winsize size = {.ws_row = 31, .ws_col = 97};

    assert_int_equal(openpty(&p->master, &p->slave, NULL, NULL, &size), 0);
    assert_int_equal(tcgetattr(p->slave, &p->before), 0);
    *state = p;
    return 0;
}

static int free_pair(void **state)
{
    struct pair *p = *state;

    close_p(&p->master);
    close_p(&p->slave);
    free(p);
    return 0;
}

static bool is_raw(const struct pair *p)
{
    struct termios now;

    assert_int_equal(tcgetattr(p->master, &now), 0);
    return !(now.c_lflag & (ICANON | ECHO | ISIG | IEXTEN)) && !(now.c_oflag & OPOST) &&
           !(now.c_iflag & (ICRNL | IXON | ISTRIP));
}

static void assert_as_before(const struct pair *p)
{
    struct termios now;

    assert_int_equal(tcgetattr(p->master, &now), 0);
    assert_int_equal(now.c_iflag, p->before.c_iflag);
    assert_int_equal(now.c_oflag, p->before.c_oflag);
    assert_int_equal(now.c_lflag, p->before.c_lflag);
    assert_memory_equal(now.c_cc, p->before.c_cc, sizeof(now.c_cc));
}

static void raw_mode_ends_as_it_began(void **state)
{
    const struct pair *p = *state;
    struct terminal t = {.fd = -1};

    terminal_restore(&t); /* nothing */
    assert_false(is_raw(p));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(terminal_raw(&t, p->slave), 0);
        assert_true(is_raw(p));
        terminal_restore(&t);
        terminal_restore(&t);
        assert_as_before(p);
    }
    terminal_resume(&t); /* nothing: it is not ours any more */
    assert_as_before(p);
}

static void keys_typed_before_stay_to_be_read(void **state)
{
    const struct pair *p = *state;
    struct terminal t = {.fd = -1};
    char typed[8];

    assert_int_equal(write(p->master, "early\r", 6), 6);
    /* The kernel carries it over by a worker of its own. */
    assert_int_equal(cancel_wait_fd(NULL, p->slave, POLLIN, test_deadline()), 0);
    assert_int_equal(terminal_raw(&t, p->slave), 0);
    assert_int_equal(read(p->slave, typed, sizeof(typed)), 6);
    assert_memory_equal(typed, "early\n", 6); /* what Enter was when it was typed */
    terminal_restore(&t);
}

static void another_program_may_change_the_modes_while_we_are_stopped(void **state)
{
    const struct pair *p = *state;
    struct terminal t = {.fd = -1};
    struct termios other = p->before;

    assert_int_equal(terminal_raw(&t, p->slave), 0);
    other.c_lflag |= ECHO | TOSTOP;
    assert_int_equal(tcsetattr(p->slave, TCSANOW, &other), 0);
    terminal_resume(&t);
    assert_true(is_raw(p));
    terminal_restore(&t);
    assert_as_before(p);
}

/* In a child, which the signal kills. */
static void die_raw(const struct pair *p, int number)
{
    struct terminal t = {.fd = -1};

    /* Of a sanitizer's own handlers the child has no use. */
    (void)signal(number, SIG_DFL);
    if (terminal_raw(&t, p->slave) == 0 && is_raw(p)) {
        (void)raise(number);
    }
    _exit(1);
}

static void signals_that_kill_end_raw_mode_first(void **state)
{
    static const int numbers[] = {SIGSEGV, SIGABRT, SIGALRM, SIGTERM, SIGUSR1, SIGXCPU, SIGSYS};
    const struct pair *p = *state;

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        pid_t pid = fork();
        int status;

        if (pid == 0) {
            die_raw(p, numbers[i]);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), numbers[i]);
        assert_as_before(p);
    }
}

static void an_ignored_signal_stays_ignored(void **state)
{
    const struct pair *p = *state;
    struct terminal t = {.fd = -1};
    struct sigaction now;

    (void)signal(SIGHUP, SIG_IGN);
    assert_int_equal(terminal_raw(&t, p->slave), 0);
    assert_int_equal(sigaction(SIGHUP, NULL, &now), 0);
    assert_ptr_equal(now.sa_handler, SIG_IGN);
    terminal_restore(&t);
    assert_int_equal(sigaction(SIGHUP, NULL, &now), 0);
    assert_ptr_equal(now.sa_handler, SIG_IGN);
    (void)signal(SIGHUP, SIG_DFL);
    assert_int_equal(sigaction(SIGALRM, NULL, &now), 0);
    assert_ptr_equal(now.sa_handler, SIG_DFL);
}

static void a_terminal_that_hangs_up_is_noticed(void **state)
{
    struct pair *p = *state;
    struct terminal t = {.fd = -1};

    assert_int_equal(terminal_raw(&t, p->slave), 0);
    assert_false(terminal_is_gone(&t));
    close_p(&p->master);
    assert_true(terminal_is_gone(&t));
    terminal_restore(&t);
}

static void what_is_no_terminal_is_refused(void **state)
{
    struct terminal t = {.fd = -1};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(terminal_raw(&t, null), -ENOTTY);
    assert_false(t.raw);
    assert_int_equal(terminal_reopen(null), -1);
    close_p(&null);
}

static void a_reopened_terminal_does_not_block_and_ours_still_does(void **state)
{
    const struct pair *p = *state;
    char piece[4096] = {0};
    int fd = terminal_reopen(p->slave);
    ssize_t n;

    assert_true(fd >= 0);
    do {
        n = write(fd, piece, sizeof(piece));
    } while (n > 0);
    assert_int_equal(errno, EAGAIN);
    assert_false(fcntl(p->slave, F_GETFL) & O_NONBLOCK);
    close_p(&fd);
}

static void the_size_is_that_of_a_standard_descriptor(void **state)
{
    const struct pair *p = *state;
    struct winsize none = {0};
    struct terminal_size size;
    int kept[3], null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = 0; fd < 3; fd++) {
        kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 10);
        assert_int_equal(dup2(null, fd), fd);
    }
    assert_false(terminal_size(&size));
    for (int fd = 0; fd < 3; fd++) {
        assert_int_equal(dup2(p->slave, fd), fd);
        assert_true(terminal_size(&size));
        assert_int_equal(size.rows, 31);
        assert_int_equal(size.columns, 97);
        assert_int_equal(dup2(null, fd), fd);
    }
    assert_int_equal(dup2(p->slave, 0), 0);
    assert_int_equal(ioctl(p->slave, TIOCSWINSZ, &none), 0);
    assert_false(terminal_size(&size));
    for (int fd = 0; fd < 3; fd++) {
        assert_int_equal(dup2(kept[fd], fd), fd);
        close_p(&kept[fd]);
    }
    close_p(&null);
}

/* The environment that get_variable gives: NAME=value lines. */
static const char *environment;

static char *get_variable(const char *name)
{
    static char value[128];
    size_t len = strlen(name);

    for (const char *p = environment; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        if (strncmp(p, name, len) == 0 && p[len] == '=') {
            (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(p + len + 1, "\n"),
                           p + len + 1);
            return value;
        }
    }
    return NULL;
}

static void assert_env(const char *ours, const char *given, const char *want)
{
    _cleanup_json_ json_t *env = json_array();
    _cleanup_free_ char *text = NULL;

    environment = ours;
    if (given) {
        json_array_append_new(env, json_string(given));
    }
    terminal_put_env(env, get_variable);
    text = json_dumps(env, JSON_COMPACT);
    assert_string_equal(text, want);
}

static void a_guest_is_told_of_the_terminal_and_nothing_else(void **state)
{
    (void)state;
    assert_env("", NULL, "[]");
    assert_env("TERM=screen-256color\nCOLORTERM=truecolor\nHOME=/x", NULL,
               "[\"TERM=screen-256color\",\"COLORTERM=truecolor\"]");
    assert_env("TERM=vt100", "TERM=dumb", "[\"TERM=dumb\"]");
    assert_env("TERM=vt100", "TERMINAL=x", "[\"TERMINAL=x\",\"TERM=vt100\"]");
    assert_env("TERM=", NULL, "[]");
    assert_env("TERM=a b", NULL, "[]");
    assert_env("TERM=\033[2J", NULL, "[]");
    assert_env("TERM=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL,
               "[]");
}

static void a_utf_8_locale_is_told_as_such(void **state)
{
    static const char want[] = "[\"LC_CTYPE=C.UTF-8\"]";

    (void)state;
    assert_env("LANG=C.UTF-8", NULL, want);
    assert_env("LANG=de_DE.utf8@euro", NULL, want);
    assert_env("LC_CTYPE=en_GB.UTF-8\nLANG=C", NULL, want);
    assert_env("LC_ALL=\nLC_CTYPE=en_GB.UTF-8", NULL, want);
    assert_env("LC_ALL=C\nLC_CTYPE=en_GB.UTF-8", NULL, "[]");
    assert_env("LANG=de_DE.ISO-8859-1", NULL, "[]");
    assert_env("LANG=de_DE.UTF-81", NULL, "[]");
    assert_env("LANG=C", NULL, "[]");
    assert_env("LANG=C.UTF-8", "LANG=C", "[\"LANG=C\"]");
    assert_env("LANG=C.UTF-8", "LC_CTYPE=C", "[\"LC_CTYPE=C\"]");
    assert_env("LANG=C.UTF-8", "LC_ALL=C", "[\"LC_ALL=C\"]");
}

#define ON_PAIR(f) cmocka_unit_test_setup_teardown(f, make_pair, free_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_PAIR(raw_mode_ends_as_it_began),
        ON_PAIR(keys_typed_before_stay_to_be_read),
        ON_PAIR(another_program_may_change_the_modes_while_we_are_stopped),
        ON_PAIR(signals_that_kill_end_raw_mode_first),
        ON_PAIR(an_ignored_signal_stays_ignored),
        ON_PAIR(a_terminal_that_hangs_up_is_noticed),
        cmocka_unit_test(what_is_no_terminal_is_refused),
        ON_PAIR(a_reopened_terminal_does_not_block_and_ours_still_does),
        ON_PAIR(the_size_is_that_of_a_standard_descriptor),
        cmocka_unit_test(a_guest_is_told_of_the_terminal_and_nothing_else),
        cmocka_unit_test(a_utf_8_locale_is_told_as_such),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
