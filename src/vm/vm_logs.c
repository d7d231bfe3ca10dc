/*
 * Reading VMs' logs, and waiting for more of them. A reader has its place in the log from page to
 * page itself: nothing is kept for it here, so a slow one costs nothing and a gone one leaves
 * nothing.
 */
#include "vm/vm_priv.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES (64 * 1024)
#define LINE_BYTES 4096 /* a longer line without an end is no line of the agent's */
/* How lines of the agent's begin on the console. The guest may write such ones, too. */
#define AGENT_MARK "banger-agent: "

void vm_log_path(const char *id, const char *name, char ret_path[VM_LOG_PATH_SIZE])
{
    (void)snprintf(ret_path, VM_LOG_PATH_SIZE, "vms/%s/%s", id, name);
}

char *vm_log_tail(const struct vms *v, const char *id, const char *name, size_t most)
{
    char path[VM_LOG_PATH_SIZE];
    _cleanup_close_ int fd = -1;

    vm_log_path(id, name, path);
    fd = openat(v->params.state_fd, path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? x_strdup("") : console_tail(fd, most);
}

struct log_file *vm_log_get(struct vms *v, const char *id, const char *name)
{
    struct log_file *log = NULL;
    struct vm_entry *e;

    leaf_lock(&v->table);
    e = vm_find_locked(v, id);
    if (e) {
        log = log_file_get(str_eq(name, VM_LOG_VMM) ? e->vmm_log : e->console);
    }
    leaf_unlock(&v->table);
    return log;
}

struct reader {
    struct vms *v;
    const struct vms_log *what;
    char id[ID_SIZE];
    const char *name;
    bool agent; /* only its lines */
    struct log_file *log;
    int fd, inotify_fd;
    int64_t after;    /* what->after, and behind what was of no interest */
    uint64_t skipped; /* before that */
};

static void reader_done(struct reader *r)
{
    log_file_put(r->log);
    close_p(&r->fd);
    close_p(&r->inotify_fd);
}

static void keep_lines(struct log_page *page, const char *mark)
{
    const char *end = page->data + page->len;
    char *to = page->data;

    for (const char *at = page->data; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline + 1 : end) - at);

        if (len >= strlen(mark) && memcmp(at, mark, strlen(mark)) == 0) {
            memmove(to, at, len);
            to += len;
        }
        at += len;
    }
    page->len = (size_t)(to - page->data);
}

/* Without the line at the end that may go on. */
static void cut_to_lines(struct log_page *page)
{
    const char *newline = memrchr(page->data, '\n', page->len);
    size_t rest = page->len - (newline ? (size_t)(newline + 1 - page->data) : 0);

    if (rest < LINE_BYTES) {
        page->len -= rest;
        page->position -= rest;
    }
}

static int read_page(struct reader *r, struct log_page *ret_page, struct err *err)
{
    bool end = r->after < 0;
    int n = end ? log_file_read_end(r->log, r->fd, r->what->tail_bytes, ret_page)
                : log_file_read(r->log, r->fd, (uint64_t)r->after, PAGE_BYTES, ret_page);

    if (n == -ERANGE) {
        return err_set(err, ERR_INVALID, "after: the log has no position %lld",
                       (long long)r->after);
    }
    if (n < 0) {
        return err_set_errno(err, ERR_IO, n, "cannot read the log");
    }
    if (r->agent) {
        cut_to_lines(ret_page);
        keep_lines(ret_page, AGENT_MARK);
    }
    ret_page->skipped += r->skipped;
    return 0;
}

static int gone(const struct reader *r, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "VM '%.64s' is gone", r->what->ref);
}

/* From now on a change of the log makes inotify_fd readable, and so does its end. One that is not
 * there yet appears in its directory, one that is removed has a link less. */
static int watch(struct reader *r, struct err *err)
{
    char path[64 + VM_LOG_PATH_SIZE];
    struct stat st;
    uint32_t mask = r->fd >= 0 ? IN_MODIFY | IN_ATTRIB : IN_CREATE | IN_DELETE_SELF | IN_ONLYDIR;

    if (r->inotify_fd < 0) {
        r->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (r->inotify_fd < 0) {
            err_set_errno(err, ERR_LIMIT, errno, "cannot wait for the log");
            return err_hint(err, "fs.inotify.max_user_instances says how many a user may have");
        }
    }
    if (r->fd >= 0) {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
    } else {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/vms/%s", r->v->params.state_fd, r->id);
    }
    if (inotify_add_watch(r->inotify_fd, path, mask) < 0) {
        return errno == ENOENT ? gone(r, err)
                               : err_set_errno(err, ERR_LIMIT, errno, "cannot wait for the log");
    }
    /* Removed before that: no event comes any more. */
    return r->fd >= 0 && fstat(r->fd, &st) == 0 && st.st_nlink == 0 ? gone(r, err) : 0;
}

static int open_log(struct reader *r, struct err *err)
{
    char path[VM_LOG_PATH_SIZE];

    close_p(&r->fd);
    log_file_put(STEAL_PTR(r->log));
    r->log = vm_log_get(r->v, r->id, r->name);
    if (!r->log) {
        return gone(r, err);
    }
    vm_log_path(r->id, r->name, path);
    r->fd = openat(r->v->params.state_fd, path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 && errno != ENOENT) {
        return err_set_errno(err, ERR_IO, errno, "cannot open the log");
    }
    return 0;
}

/* What there is now: 1, or 0 when that is nothing and more is to be waited for. */
static int look(struct reader *r, struct log_page *ret_page, struct err *err)
{
    bool wait = r->what->wait && r->after >= 0;
    struct log_page page;

    /* The watch comes before the look, so that nothing is missed in between. */
    if (open_log(r, err) < 0 || (wait && watch(r, err) < 0) ||
        (wait && r->fd < 0 && (open_log(r, err) < 0 || watch(r, err) < 0))) {
        return -1;
    }
    do {
        page = (struct log_page){.position = r->after > 0 ? (uint64_t)r->after : 0};
        if (r->fd < 0) {
            page.data = x_calloc(1, 1);
        } else if (read_page(r, &page, err) < 0) {
            return -1;
        }
        if (!wait || page.len > 0) {
            break;
        }
        r->skipped = page.skipped;
        if (page.position == (uint64_t)r->after) {
            free(page.data);
            return 0;
        }
        /* All of it was filtered out. */
        r->after = (int64_t)page.position;
        free(page.data);
    } while (true);
    *ret_page = page;
    return 1;
}

static int await_change(struct reader *r, struct cancel *cancel, struct err *err)
{
    _Alignas(struct inotify_event) char events[4096];
    int n = cancel_wait_fd(cancel, r->inotify_fd, POLLIN, -1);

    if (n < 0) {
        return err_set_errno(err, ERR_INTERNAL, n, "waiting for the log");
    }
    while (read(r->inotify_fd, events, sizeof(events)) > 0) {
    }
    return 0;
}

int vms_log_read(struct vms *v, const struct vms_log *what, struct cancel *cancel,
                 struct log_page *ret_page, struct err *err)
{
    _cleanup_(reader_done) struct reader r = {
        .v = v,
        .what = what,
        .name = str_eq(what->source, "vmm") ? VM_LOG_VMM : VM_LOG_CONSOLE,
        .agent = str_eq(what->source, "agent"),
        .fd = -1,
        .inotify_fd = -1,
        .after = what->after,
    };
    int n;

    if (vms_resolve(v, what->ref, r.id, err) < 0) {
        return -1;
    }
    while ((n = look(&r, ret_page, err)) == 0) {
        if (await_change(&r, cancel, err) < 0) {
            return -1;
        }
    }
    return n < 0 ? -1 : 0;
}
