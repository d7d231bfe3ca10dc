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
    atomic_int fd; /* of those who wait, readable for good once triggered; -1: nobody has waited */
};

/* Most cancels and latches are never waited for, or not any more when somebody comes: those who
 * wait make the descriptor. Who finds none left looks again each SLICE_MS. */
#define SLICE_MS 10

static int make_fd(void)
{
    return eventfd(0, EFD_CLOEXEC); /* or -1 */
}

struct cancel *cancel_new(void)
{
    struct cancel *c = calloc(1, sizeof(*c));

    if (!c) {
        abort();
    }
    atomic_init(&c->refs, 1);
    atomic_init(&c->fd, -1);
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
        int fd = atomic_load(&c->fd);

        close_p(&fd);
        free(c);
    }
}

/* Either this sees the descriptor of who waits, or who waits sees that it is requested. */
void cancel_trigger(struct cancel *c)
{
    int fd;

    atomic_store(&c->requested, true);
    fd = atomic_load(&c->fd);
    if (fd >= 0) {
        (void)eventfd_write(fd, 1);
    }
}

static int cancel_fd(struct cancel *c)
{
    int fd = c ? atomic_load(&c->fd) : -1;
    int made;

    if (!c || fd >= 0) {
        return fd;
    }
    made = make_fd();
    if (made < 0 || atomic_compare_exchange_strong(&c->fd, &fd, made)) {
        return made;
    }
    close(made); /* another was quicker */
    return fd;
}

bool cancel_requested(const struct cancel *c)
{
    return c && atomic_load(&c->requested);
}

int cancel_wait_fd(struct cancel *c, int fd, short events, int64_t deadline_ms)
{
    struct pollfd p[2] = {
        {.fd = fd, .events = events},
        {.fd = cancel_fd(c), .events = POLLIN},
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
        if (c && p[1].fd < 0 && (timeout < 0 || timeout > SLICE_MS)) {
            timeout = SLICE_MS;
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

#define LATCH_UNSET (-1)
#define LATCH_SET (-2)

void latch_init(struct latch *l)
{
    atomic_init(&l->state, LATCH_UNSET);
    atomic_init(&l->fd, -1);
}

void latch_done(struct latch *l)
{
    int fd = atomic_load(&l->fd);
    eventfd_t value;

    /* Who set it may be about to write to what we close: the read waits for that. */
    if (fd >= 0 && latch_is_set(l)) {
        (void)eventfd_read(fd, &value);
    }
    close_p(&fd);
}

/* Whoever waits may free the latch as soon as it is set: it is not touched after the exchange. */
void latch_set(struct latch *l)
{
    int fd = atomic_exchange(&l->state, LATCH_SET);

    if (fd >= 0) {
        (void)eventfd_write(fd, 1);
    }
}

bool latch_is_set(const struct latch *l)
{
    return atomic_load(&l->state) == LATCH_SET;
}

/* What to wait for, made unless another who waits has; or LATCH_SET, or LATCH_UNSET when none can
 * be made. */
static int latch_fd(struct latch *l)
{
    int state = atomic_load(&l->state);
    int made;

    if (state != LATCH_UNSET) {
        return state;
    }
    made = make_fd();
    if (made < 0) {
        return LATCH_UNSET;
    }
    if (atomic_compare_exchange_strong(&l->state, &state, made)) {
        atomic_store(&l->fd, made);
        return made;
    }
    close(made);
    return state;
}

int latch_wait(struct latch *l, struct cancel *c, int64_t deadline_ms)
{
    int r;

    rank_assert_may_wait();
    do {
        int64_t until_ms = deadline_ms;
        int fd;

        if (cancel_requested(c)) {
            return -ECANCELED;
        }
        fd = latch_fd(l);
        if (fd == LATCH_SET) {
            return 0;
        }
        if (fd == LATCH_UNSET) {
            int64_t slice_ms = clock_mono_ms() + SLICE_MS;

            until_ms = deadline_ms >= 0 && deadline_ms < slice_ms ? deadline_ms : slice_ms;
        }
        r = cancel_wait_fd(c, fd, POLLIN, until_ms);
    } while (r == -ETIMEDOUT && (deadline_ms < 0 || clock_mono_ms() < deadline_ms));
    if (r == 0) {
        (void)latch_is_set(l); /* poll(2) alone orders no memory */
    }
    return r;
}
