#include "base/loop.h"

#include "base/cancel.h"
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>

struct posted {
    struct posted *next;
    loop_fn fn;
    void *arg;
};

struct loop {
    /* immutable after loop_new */
    sd_event *event;
    pthread_t thread;
    int wake_fd;

    /* under lock; a plain mutex: held for a few instructions, nests under nothing of ours */
    pthread_mutex_t lock;
    struct posted *first, **last;
    bool ending;
};

struct loop_source {
    struct loop *loop;
    sd_event_source *source;
    loop_io_fn io_fn;
    loop_fn timer_fn;
    void *arg;
};

static _Thread_local const struct loop *current;

bool loop_is_current(const struct loop *l)
{
    return current == l;
}

static struct posted *take_posted(struct loop *l, bool *ret_ending)
{
    struct posted *p;

    pthread_mutex_lock(&l->lock);
    p = l->first;
    l->first = NULL;
    l->last = &l->first;
    *ret_ending = l->ending;
    pthread_mutex_unlock(&l->lock);
    return p;
}

/* Runs what was posted. False when there was nothing. */
static bool run_posted(struct loop *l, bool *ret_ending)
{
    struct posted *p = take_posted(l, ret_ending);
    bool any = p != NULL;

    while (p) {
        struct posted *next = p->next;

        p->fn(p->arg);
        free(p);
        p = next;
    }
    return any;
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
    struct loop *l = arg;
    eventfd_t value;
    bool ending;

    (void)s;
    (void)revents;
    (void)eventfd_read(fd, &value);
    (void)run_posted(l, &ending);
    if (ending) {
        sd_event_exit(l->event, 0);
    }
    return 0;
}

struct starting {
    struct loop *loop;
    struct latch ready;
    int result;
};

static void *loop_main(void *arg)
{
    struct starting *start = arg;
    struct loop *l = start->loop;
    bool ending;
    int r;

    current = l;
    r = sd_event_new(&l->event);
    if (r >= 0) {
        r = sd_event_add_io(l->event, NULL, l->wake_fd, EPOLLIN, on_wake, l);
    }
    start->result = r;
    latch_set(&start->ready);
    if (r >= 0) {
        r = sd_event_loop(l->event);
        assert(r >= 0);
        while (run_posted(l, &ending)) {
            /* what the last callbacks posted: frees, mostly */
        }
    }
    l->event = sd_event_unref(l->event);
    return NULL;
}

int loop_new(const char *name, struct loop **ret_loop)
{
    struct starting start = {.loop = calloc(1, sizeof(struct loop))};
    struct loop *l = start.loop;
    int r;

    if (!l) {
        abort();
    }
    l->last = &l->first;
    pthread_mutex_init(&l->lock, NULL);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = l->wake_fd < 0 ? -errno : 0;
    if (r >= 0) {
        latch_init(&start.ready);
        r = thread_start(&l->thread, name, 512, loop_main, &start);
        if (r >= 0) {
            (void)latch_wait(&start.ready, NULL, -1);
            r = start.result;
            if (r < 0) {
                pthread_join(l->thread, NULL);
            }
        }
        latch_done(&start.ready);
    }
    if (r < 0) {
        close_p(&l->wake_fd);
        pthread_mutex_destroy(&l->lock);
        free(l);
        return r;
    }
    *ret_loop = l;
    return 0;
}

void loop_free(struct loop *l)
{
    if (!l) {
        return;
    }
    assert(!loop_is_current(l));
    pthread_mutex_lock(&l->lock);
    l->ending = true;
    pthread_mutex_unlock(&l->lock);
    (void)eventfd_write(l->wake_fd, 1);
    pthread_join(l->thread, NULL);
    assert(!l->first);
    close_p(&l->wake_fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void loop_post(struct loop *l, loop_fn fn, void *arg)
{
    struct posted *p = calloc(1, sizeof(*p));
    bool first;

    if (!p) {
        abort();
    }
    p->fn = fn;
    p->arg = arg;
    pthread_mutex_lock(&l->lock);
    first = !l->first;
    *l->last = p;
    l->last = &p->next;
    pthread_mutex_unlock(&l->lock);
    /* Behind others there is a wake-up under way. */
    if (first) {
        (void)eventfd_write(l->wake_fd, 1);
    }
}

/* On the stack of who waits. No latch: that would be a descriptor, made and closed for each call.
 */
struct call {
    loop_fn fn;
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done; /* under lock */
};

static void run_call(void *arg)
{
    struct call *c = arg;

    c->fn(c->arg);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->ended); /* held: who waits destroys both */
    pthread_mutex_unlock(&c->lock);
}

void loop_call(struct loop *l, loop_fn fn, void *arg)
{
    struct call c = {.fn = fn, .arg = arg};

    if (loop_is_current(l)) {
        fn(arg);
        return;
    }
    rank_assert_may_wait();
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.ended, NULL);
    loop_post(l, run_call, &c);
    pthread_mutex_lock(&c.lock);
    while (!c.done) {
        pthread_cond_wait(&c.ended, &c.lock);
    }
    pthread_mutex_unlock(&c.lock);
    pthread_cond_destroy(&c.ended);
    pthread_mutex_destroy(&c.lock);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
    struct loop_source *s = arg;

    (void)source;
    (void)fd;
    s->io_fn(s->arg, revents);
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
    struct loop_source *s = arg;

    (void)source;
    (void)usec;
    s->timer_fn(s->arg);
    return 0;
}

static struct loop_source *source_new(struct loop *l, void *arg)
{
    struct loop_source *s = calloc(1, sizeof(*s));

    if (!s) {
        abort();
    }
    assert(loop_is_current(l));
    s->loop = l;
    s->arg = arg;
    return s;
}

struct loop_source *loop_add_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *arg)
{
    struct loop_source *s = source_new(l, arg);

    s->io_fn = fn;
    if (sd_event_add_io(l->event, &s->source, fd, events, on_io, s) < 0) {
        abort();
    }
    return s;
}

void loop_source_set_events(struct loop_source *s, uint32_t events)
{
    assert(loop_is_current(s->loop));
    if (sd_event_source_set_io_events(s->source, events) < 0) {
        abort();
    }
}

struct loop_source *loop_add_timer(struct loop *l, int64_t deadline_ms, loop_fn fn, void *arg)
{
    struct loop_source *s = source_new(l, arg);

    s->timer_fn = fn;
    if (sd_event_add_time(l->event, &s->source, CLOCK_MONOTONIC,
                          deadline_ms < 0 ? 0 : (uint64_t)deadline_ms * 1000, 1000, on_timer,
                          s) < 0) {
        abort();
    }
    if (deadline_ms < 0) {
        (void)sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
    }
    return s;
}

void loop_source_set_deadline(struct loop_source *s, int64_t deadline_ms)
{
    assert(loop_is_current(s->loop));
    if (deadline_ms < 0) {
        (void)sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
        return;
    }
    (void)sd_event_source_set_time(s->source, (uint64_t)deadline_ms * 1000);
    (void)sd_event_source_set_enabled(s->source, SD_EVENT_ONESHOT);
}

void loop_source_free(struct loop_source *s)
{
    if (s) {
        assert(loop_is_current(s->loop));
        sd_event_source_disable_unref(s->source);
        free(s);
    }
}
