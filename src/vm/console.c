#include "vm/console.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/list.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#define WATCH_BUCKETS 256

struct console_watcher {
    struct loop *loop;
    int inotify_fd;

    /* loop thread */
    struct loop_source *changes, *timer;
    struct list watches[WATCH_BUCKETS]; /* struct console_watch by wd */
    struct list changed;                /* struct console_watch that the timer looks at */
};

struct console_watch {
    /* immutable */
    struct console_watcher *watcher;
    struct log_file *log; /* a reference */
    int fd, wd;

    /* loop thread */
    struct list node, changed_node;
};

static void on_timer(void *arg)
{
    struct console_watcher *watcher = arg;

    list_for_each (it, &watcher->changed) {
        struct console_watch *w = LIST_ENTRY(it, struct console_watch, changed_node);

        list_remove(&w->changed_node);
        log_file_shorten(w->log, w->fd);
    }
    loop_source_set_events(watcher->changes, EPOLLIN);
}

static struct list *bucket_of(struct console_watcher *watcher, int wd)
{
    return &watcher->watches[(unsigned)wd % WATCH_BUCKETS];
}

static void mark(struct console_watch *w)
{
    if (!list_is_linked(&w->changed_node)) {
        list_append(&w->watcher->changed, &w->changed_node);
    }
}

static void mark_all(struct console_watcher *watcher)
{
    for (int i = 0; i < WATCH_BUCKETS; i++) {
        list_for_each (it, &watcher->watches[i]) {
            mark(LIST_ENTRY(it, struct console_watch, node));
        }
    }
}

static void on_event(struct console_watcher *watcher, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) {
        mark_all(watcher);
    }
    list_for_each (it, bucket_of(watcher, event->wd)) {
        struct console_watch *w = LIST_ENTRY(it, struct console_watch, node);

        if (w->wd == event->wd) {
            mark(w);
        }
    }
}

static void on_change(void *arg, uint32_t events)
{
    struct console_watcher *watcher = arg;
    _Alignas(struct inotify_event) char buffer[4096];
    ssize_t n;

    (void)events;
    while ((n = read(watcher->inotify_fd, buffer, sizeof(buffer))) > 0) {
        for (char *p = buffer; p < buffer + n;) {
            const struct inotify_event *event = (const void *)p;

            on_event(watcher, event);
            p += sizeof(*event) + event->len;
        }
    }
    loop_source_set_events(watcher->changes, 0);
    loop_source_set_deadline(watcher->timer, clock_mono_ms() + 1000);
}

static void begin_on_loop(void *arg)
{
    struct console_watcher *watcher = arg;

    watcher->changes = loop_add_io(watcher->loop, watcher->inotify_fd, EPOLLIN, on_change, watcher);
    watcher->timer = loop_add_timer(watcher->loop, -1, on_timer, watcher);
}

static void end_on_loop(void *arg)
{
    struct console_watcher *watcher = arg;

    loop_source_free(watcher->changes);
    loop_source_free(watcher->timer);
}

struct console_watcher *console_watcher_new(struct loop *loop)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    struct console_watcher *watcher;

    if (fd < 0) {
        return NULL;
    }
    watcher = x_calloc(1, sizeof(*watcher));
    watcher->loop = loop;
    watcher->inotify_fd = fd;
    list_init(&watcher->changed);
    for (int i = 0; i < WATCH_BUCKETS; i++) {
        list_init(&watcher->watches[i]);
    }
    loop_call(loop, begin_on_loop, watcher);
    return watcher;
}

void console_watcher_free(struct console_watcher *watcher)
{
    if (watcher) {
        loop_call(watcher->loop, end_on_loop, watcher);
        close_p(&watcher->inotify_fd);
        free(watcher);
    }
}

/* What was written before this may have been told already: it is looked at once for that. */
static void add_on_loop(void *arg)
{
    struct console_watch *w = arg;
    struct console_watcher *watcher = w->watcher;

    list_append(bucket_of(watcher, w->wd), &w->node);
    if (list_is_empty(&watcher->changed)) {
        loop_source_set_deadline(watcher->timer, clock_mono_ms() + 1000);
    }
    mark(w);
}

static void remove_on_loop(void *arg)
{
    struct console_watch *w = arg;

    (void)inotify_rm_watch(w->watcher->inotify_fd, w->wd);
    list_remove(&w->node);
    list_remove(&w->changed_node);
}

struct console_watch *console_watch_new(struct console_watcher *watcher, struct log_file *log,
                                        int fd)
{
    struct console_watch *w;
    char path[64];
    int wd;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    wd = watcher ? inotify_add_watch(watcher->inotify_fd, path, IN_MODIFY) : -1;
    if (wd < 0) {
        close_p(&fd);
        return NULL;
    }
    w = x_calloc(1, sizeof(*w));
    w->watcher = watcher;
    w->log = log_file_get(log);
    w->fd = fd;
    w->wd = wd;
    loop_post(watcher->loop, add_on_loop, w);
    return w;
}

void console_watch_free(struct console_watch *w)
{
    if (w) {
        loop_call(w->watcher->loop, remove_on_loop, w);
        close_p(&w->fd);
        log_file_put(w->log);
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
