#include "cli/terminal.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VARIABLE_MAX 64 /* bytes of TERM and the like; longer ones are not passed on */

/* For the handler, which is given nothing. Written while it is not installed. */
static struct terminal *raw_terminal;

static void on_fatal(int number)
{
    /* The disposition is the default again. */
    (void)tcsetattr(raw_terminal->fd, TCSANOW, &raw_terminal->saved);
    (void)raise(number);
}

/* Signals whose default is not to kill, or that cannot be caught. */
static bool is_harmless(int number)
{
    static const int harmless[] = {SIGKILL, SIGSTOP, SIGCHLD, SIGCONT,  SIGURG,
                                   SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH, SIGPIPE};

    for (size_t i = 0; i < ARRAY_LEN(harmless); i++) {
        if (number == harmless[i]) {
            return true;
        }
    }
    return false;
}

/* Of those that others read (cli/signals.h) the handler hears nothing: they are blocked. */
static void catch_fatal(struct terminal *t)
{
    struct sigaction action = {.sa_handler = t ? on_fatal : SIG_DFL,
                               .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};

    raw_terminal = t ? t : raw_terminal;
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction now;

        if (!is_harmless(number) && sigaction(number, NULL, &now) == 0 &&
            now.sa_handler == (t ? SIG_DFL : on_fatal)) {
            (void)sigaction(number, &action, NULL);
        }
    }
    raw_terminal = t;
}

static int set_modes(int fd, const struct termios *modes)
{
    int r;

    do {
        r = tcsetattr(fd, TCSANOW, modes);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int go_raw(const struct terminal *t, tcflag_t keep)
{
    struct termios modes = t->saved;

    cfmakeraw(&modes);
    modes.c_lflag |= t->saved.c_lflag & keep;
    modes.c_cc[VMIN] = 1;
    modes.c_cc[VTIME] = 0;
    return set_modes(t->fd, &modes);
}

int terminal_raw(struct terminal *t, int fd)
{
    int r;

    t->fd = fd;
    if (tcgetattr(fd, &t->saved) < 0) {
        return -errno;
    }
    catch_fatal(t);
    r = go_raw(t, 0);
    t->raw = r == 0;
    if (r < 0) {
        catch_fatal(NULL);
    }
    return r;
}

void terminal_restore(struct terminal *t)
{
    if (t->raw) {
        (void)set_modes(t->fd, &t->saved);
        catch_fatal(NULL);
        t->raw = false;
    }
}

void terminal_pause(struct terminal *t)
{
    if (t->raw) {
        (void)go_raw(t, ISIG);
    }
}

void terminal_resume(struct terminal *t)
{
    if (t->raw) {
        (void)go_raw(t, 0);
    }
}

void terminal_stop(struct terminal *t)
{
    sigset_t stop, before;

    (void)set_modes(t->fd, &t->saved);
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTSTP);
    (void)raise(SIGTSTP);
    /* Here we stop, unless the process group is orphaned: then the signal does nothing. */
    (void)sigprocmask(SIG_UNBLOCK, &stop, &before);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    terminal_resume(t);
}

bool terminal_is_gone(const struct terminal *t)
{
    struct termios modes;

    return tcgetattr(t->fd, &modes) < 0;
}

bool terminal_size(struct terminal_size *ret)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        struct winsize size;

        if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
            *ret = (struct terminal_size){.rows = size.ws_row, .columns = size.ws_col};
            return true;
        }
    }
    return false;
}

static bool env_has(const json_t *env, const char *name)
{
    size_t len = strlen(name), i;
    const json_t *entry;

    json_array_foreach (env, i, entry) {
        const char *text = json_string_value(entry);

        if (text && strncmp(text, name, len) == 0 && text[len] == '=') {
            return true;
        }
    }
    return false;
}

static void put_variable(json_t *env, const char *name, const char *value)
{
    _cleanup_free_ char *entry = NULL;

    if (!value || !value[0] || strlen(value) > VARIABLE_MAX ||
        value[strspn(value,
                     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._")] ||
        env_has(env, name)) {
        return;
    }
    entry = x_asprintf("%s=%s", name, value);
    json_array_append_new(env, json_string(entry));
}

/* As the C library decides which locale is meant. */
static bool locale_is_utf8(char *(*get)(const char *name))
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *value = NULL;
    size_t len;

    for (size_t i = 0; i < ARRAY_LEN(names) && (!value || !value[0]); i++) {
        value = get(names[i]);
    }
    value = value ? strchr(value, '.') : NULL;
    len = value ? strcspn(value, "@") : 0;
    return (len == 6 && strncasecmp(value, ".UTF-8", len) == 0) ||
           (len == 5 && strncasecmp(value, ".UTF8", len) == 0);
}

void terminal_put_env(json_t *env, char *(*get)(const char *name))
{
    put_variable(env, "TERM", get("TERM"));
    put_variable(env, "COLORTERM", get("COLORTERM"));
    if (locale_is_utf8(get) && !env_has(env, "LC_ALL") && !env_has(env, "LANG")) {
        put_variable(env, "LC_CTYPE", "C.UTF-8");
    }
}

int terminal_reopen(int fd)
{
    char path[32];

    if (!isatty(fd)) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}
