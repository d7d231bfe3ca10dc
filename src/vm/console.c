#include "vm/console.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

struct console_watch {
    struct loop *loop;
    int fd, inotify_fd;
    struct loop_source *changes, *timer;
};

/* What the guest writes between the read and the truncation is lost: it is a log, and bounded. */
static void shorten(int fd)
{
    _cleanup_free_ char *tail = x_calloc(1, CONSOLE_KEEP_BYTES);
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) < 0 || st.st_size <= CONSOLE_MAX_BYTES) {
        return;
    }
    n = pread(fd, tail, CONSOLE_KEEP_BYTES, st.st_size - CONSOLE_KEEP_BYTES);
    if (n > 0 && ftruncate(fd, 0) == 0) {
        (void)fs_write_all(fd, tail, (size_t)n);
    }
}

static void on_timer(void *arg)
{
    struct console_watch *w = arg;

    shorten(w->fd);
    loop_source_set_events(w->changes, EPOLLIN);
}

static void on_change(void *arg, uint32_t events)
{
    struct console_watch *w = arg;
    char buffer[4096];

    (void)events;
    while (read(w->inotify_fd, buffer, sizeof(buffer)) > 0) {
        /* only that something changed matters */
    }
    loop_source_set_events(w->changes, 0);
    loop_source_set_deadline(w->timer, clock_mono_ms() + 1000);
}

static void add_on_loop(void *arg)
{
    struct console_watch *w = arg;

    w->changes = loop_add_io(w->loop, w->inotify_fd, EPOLLIN, on_change, w);
    w->timer = loop_add_timer(w->loop, -1, on_timer, w);
}

static void remove_on_loop(void *arg)
{
    struct console_watch *w = arg;

    loop_source_free(w->changes);
    loop_source_free(w->timer);
}

struct console_watch *console_watch_new(struct loop *loop, int fd)
{
    struct console_watch *w = x_calloc(1, sizeof(*w));
    char path[64];

    w->loop = loop;
    w->fd = fd;
    w->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (w->inotify_fd < 0 || inotify_add_watch(w->inotify_fd, path, IN_MODIFY) < 0) {
        close_p(&w->inotify_fd);
        close_p(&w->fd);
        free(w);
        return NULL;
    }
    loop_call(loop, add_on_loop, w);
    return w;
}

void console_watch_free(struct console_watch *w)
{
    if (w) {
        loop_call(w->loop, remove_on_loop, w);
        close_p(&w->inotify_fd);
        close_p(&w->fd);
        free(w);
    }
}

char *console_tail(int fd, size_t most)
{
    _cleanup_free_ char *raw = x_calloc(1, most + 1);
    _cleanup_buf_ struct buf out;
    struct stat st;
    off_t from;
    ssize_t n;
    char *at;

    buf_init(&out, most * 4 + most + 1);
    if (fstat(fd, &st) < 0) {
        return x_strdup("");
    }
    from = st.st_size > (off_t)most ? st.st_size - (off_t)most : 0;
    n = pread(fd, raw, most, from);
    at = raw;
    if (n > 0 && from > 0 && memchr(raw, '\n', (size_t)n)) {
        at = (char *)memchr(raw, '\n', (size_t)n) + 1;
    }
    /* Not by C strings: guests write NUL too. */
    while (n > 0 && at < raw + n) {
        size_t left = (size_t)(raw + n - at);
        const char *newline = memchr(at, '\n', left);
        size_t len = newline ? (size_t)(newline - at) : left;
        size_t shown = len - (len > 0 && at[len - 1] == '\r' ? 1 : 0);
        _cleanup_free_ char *safe = str_escape(at, shown, shown);

        (void)!buf_printf(&out, "%s%s", safe, newline ? "\n" : "");
        at += len + 1;
    }
    return buf_steal_str(&out);
}

const char *console_since_boot(const char *text)
{
    const char *at = text;

    for (const char *mark = text; (mark = strstr(mark, CONSOLE_MARK)); mark++) {
        const char *end = strchr(mark, '\n');

        at = end ? end + 1 : mark + strlen(mark);
    }
    return at;
}
