#include "base/cancel.h"

#include "base/clock.h"
#include "base/thread.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

struct cancel {
    atomic_int refs;
    atomic_bool requested;
    int fd; /* readable for good once triggered */
};

struct cancel *cancel_new(void)
{
    struct cancel *c = calloc(1, sizeof(*c));

    if (!c) {
        abort();
    }
    atomic_init(&c->refs, 1);
    c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->fd < 0) {
        abort(); /* out of descriptors: admission bounds what we open, so this is our bug */
    }
    return c;
}

struct cancel *cancel_get(struct cancel *c)
{
    if (c) {
        atomic_fetch_add(&c->refs, 1);
    }
    return c;
}

void cancel_put(struct cancel *c)
{
    if (c && atomic_fetch_sub(&c->refs, 1) == 1) {
        close(c->fd);
        free(c);
    }
}

void cancel_trigger(struct cancel *c)
{
    atomic_store(&c->requested, true);
    (void)eventfd_write(c->fd, 1);
}

bool cancel_requested(const struct cancel *c)
{
    return c && atomic_load(&c->requested);
}

int cancel_wait_fd(struct cancel *c, int fd, short events, int64_t deadline_ms)
{
    struct pollfd p[2] = {
        {.fd = fd, .events = events},
        {.fd = c ? c->fd : -1, .events = POLLIN},
    };

    rank_assert_may_wait();
    for (;;) {
        int timeout = -1, n;

        if (cancel_requested(c)) {
            return -ECANCELED;
        }
        if (deadline_ms >= 0) {
            int64_t left = deadline_ms - clock_mono_ms();

            timeout = left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
        }
        n = poll(p, 2, timeout);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0 && p[0].revents) {
            return 0;
        }
        if (n == 0 && deadline_ms >= 0 && clock_mono_ms() >= deadline_ms) {
            return -ETIMEDOUT;
        }
    }
}

/* Each read takes one of a semaphore eventfd, so it stays readable. */
#define LATCH_SET ((eventfd_t)1 << 62)

int latch_init(struct latch *l)
{
    l->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    return l->fd < 0 ? -errno : 0;
}

void latch_done(struct latch *l)
{
    close_p(&l->fd);
}

/* Whoever waits may free the latch as soon as it is readable: it is not touched after the write. */
void latch_set(struct latch *l)
{
    (void)eventfd_write(l->fd, LATCH_SET);
}

/* poll(2) alone orders no memory in the eyes of ThreadSanitizer; reading does. */
bool latch_is_set(const struct latch *l)
{
    eventfd_t value;

    return eventfd_read(l->fd, &value) == 0;
}

int latch_wait(struct latch *l, struct cancel *c, int64_t deadline_ms)
{
    int r = cancel_wait_fd(c, l->fd, POLLIN, deadline_ms);

    if (r == 0) {
        (void)latch_is_set(l);
    }
    return r;
}
