/* TAPs: some are made ahead, those that VMs had are used again, and the rest are deleted many at a
 * time, by one thread, as the kernel waits for all its processors with each deletion. */
#include "net/net_priv.h"

#include "base/attr.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_KIB 256
#define AGAIN_MS 10000 /* after one could not be made */
#define TRIES 4        /* of TAPs that somebody else has, or that are gone */

static void push(unsigned *stack, unsigned *count, unsigned tap)
{
    stack[(*count)++] = tap;
}

static bool take_out(unsigned *stack, unsigned *count, unsigned tap)
{
    for (unsigned i = 0; i < *count; i++) {
        if (stack[i] == tap) {
            stack[i] = stack[--*count];
            return true;
        }
    }
    return false;
}

int nets_taps_init(struct nets *net, struct err *err)
{
    _cleanup_free_ unsigned *taps = NULL;
    size_t count = 0, k = 0;

    net->no_taps = x_calloc(HOST_TAPS_MAX, sizeof(unsigned));
    net->idle = x_calloc(HOST_TAPS_MAX, sizeof(unsigned));
    net->doomed = x_calloc(HOST_TAPS_MAX, sizeof(unsigned));
    net->ready = x_calloc(net->pool_size + 1, sizeof(*net->ready));
    net->tap_used = x_calloc(HOST_TAPS_MAX, sizeof(bool));
    if (host_tap_list(net->host, &taps, &count, err) < 0) {
        return -1;
    }
    /* The lowest is the first to be taken. Those of the host come in ascending order. */
    k = count;
    for (unsigned tap = HOST_TAPS_MAX; tap-- > 0;) {
        if (k > 0 && taps[k - 1] == tap) {
            push(net->idle, &net->idle_count, taps[--k]);
        } else {
            push(net->no_taps, &net->no_tap_count, tap);
        }
    }
    return 0;
}

void nets_taps_done(struct nets *net)
{
    free(net->no_taps);
    free(net->idle);
    free(net->doomed);
    free(net->ready);
    free(net->tap_used);
}

/* ---- the thread ---- */

static void wake(struct nets *net)
{
    if (net->runs) {
        (void)eventfd_write(net->wake, 1);
    }
}

static size_t take_doomed(struct nets *net, unsigned taps[HOST_TAPS_AT_ONCE])
{
    size_t count;

    leaf_lock(&net->lock);
    while (net->idle_count + net->ready_count > net->pool_size && net->idle_count > 0) {
        push(net->doomed, &net->doomed_count, net->idle[--net->idle_count]);
    }
    for (count = 0; count < HOST_TAPS_AT_ONCE && net->doomed_count > 0; count++) {
        taps[count] = net->doomed[--net->doomed_count];
    }
    leaf_unlock(&net->lock);
    return count;
}

static void put_back(struct nets *net, const unsigned *taps, size_t count, bool deleted)
{
    leaf_lock(&net->lock);
    for (size_t i = 0; i < count; i++) {
        if (deleted) {
            push(net->no_taps, &net->no_tap_count, taps[i]);
        } else {
            push(net->doomed, &net->doomed_count, taps[i]);
        }
    }
    leaf_unlock(&net->lock);
}

/* False: they are there still, and it is tried again later. */
static bool delete_doomed(struct nets *net)
{
    _cleanup_free_ unsigned *taps = x_calloc(HOST_TAPS_AT_ONCE, sizeof(*taps));
    size_t count;
    struct err err;

    while ((count = take_doomed(net, taps)) > 0) {
        bool deleted = host_tap_delete(net->host, taps, count, &err) == 0;

        put_back(net, taps, count, deleted);
        if (!deleted) {
            log_warn("%zu TAPs are left: %s", count, err.message);
            return false;
        }
    }
    return true;
}

/* A number to be opened: of one that is there, or is made by that. -1: there is none left. */
static int64_t take_number(struct nets *net)
{
    int64_t tap = -1;

    leaf_lock(&net->lock);
    if (net->idle_count > 0) {
        tap = net->idle[--net->idle_count];
    } else if (net->no_tap_count > 0) {
        tap = net->no_taps[--net->no_tap_count];
    }
    leaf_unlock(&net->lock);
    return tap;
}

/* One that a VMM holds which nobody knows is left alone until the next daemon. */
static int open_any(struct nets *net, unsigned *ret_tap, int *ret_fd, struct err *err)
{
    for (int i = 0; i < TRIES; i++) {
        int64_t tap = take_number(net);

        if (tap < 0) {
            return err_set(err, ERR_LIMIT, "all %u TAPs are in use", HOST_TAPS_MAX);
        }
        if (host_tap_open(net->host, (unsigned)tap, ret_fd, err) == 0) {
            *ret_tap = (unsigned)tap;
            return 0;
        }
        if (err->code != ERR_BUSY) {
            put_back(net, &(unsigned){(unsigned)tap}, 1, false);
            return -1;
        }
        log_warn(HOST_TAP_PREFIX "%lld is somebody else's: %s", (long long)tap, err->message);
    }
    return -1;
}

static bool is_short(struct nets *net)
{
    bool is;

    leaf_lock(&net->lock);
    is = net->ready_count < net->pool_size;
    leaf_unlock(&net->lock);
    return is;
}

static bool fill(struct nets *net)
{
    struct ready_tap made = {.fd = -1};
    struct err err;

    while (!cancel_requested(net->stop) && is_short(net)) {
        if (open_any(net, &made.tap, &made.fd, &err) < 0) {
            log_warn("no TAP can be made ready: %s", err.message);
            return false;
        }
        leaf_lock(&net->lock);
        net->ready[net->ready_count++] = made; /* only we add */
        leaf_unlock(&net->lock);
    }
    return true;
}

/* What VMs that are started from now on are told of; those that run find the path's by themselves
 * (RFC 1191, 8201). */
static bool follow_uplinks(struct nets *net)
{
    unsigned mtu;
    struct err err;

    if (!atomic_exchange(&net->uplinks_changed, false)) {
        return true;
    }
    if (host_net_refresh(net->host, &mtu, &err) < 0) {
        log_warn("the host's uplinks cannot be followed: %s", err.message);
        atomic_store(&net->uplinks_changed, true);
        return false;
    }
    leaf_lock(&net->lock);
    net->mtu = mtu;
    leaf_unlock(&net->lock);
    return true;
}

static void *pool_main(void *arg)
{
    struct nets *net = arg;

    do {
        eventfd_t ignored;
        bool done = follow_uplinks(net);

        done = delete_doomed(net) && done;
        done = fill(net) && done;
        (void)cancel_wait_fd(net->stop, net->wake, POLLIN, done ? -1 : clock_mono_ms() + AGAIN_MS);
        (void)eventfd_read(net->wake, &ignored);
    } while (!cancel_requested(net->stop));
    return NULL;
}

static void on_uplinks(void *arg, uint32_t events)
{
    struct nets *net = arg;

    (void)events;
    if (nets_uplink_changed(net->uplink_fd)) {
        atomic_store(&net->uplinks_changed, true);
        wake(net);
    }
}

static void watch_uplinks(void *arg)
{
    struct nets *net = arg;

    net->uplink_source = loop_add_io(net->loop, net->uplink_fd, EPOLLIN, on_uplinks, net);
}

static void unwatch_uplinks(void *arg)
{
    struct nets *net = arg;

    loop_source_free(STEAL_PTR(net->uplink_source));
}

int nets_start(struct nets *net, struct loop *loop, struct err *err)
{
    int r;

    if (net->why_not) {
        return 0;
    }
    net->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = net->wake < 0 ? -errno : thread_start(&net->thread, "tap-pool", STACK_KIB, pool_main, net);
    if (r < 0) {
        return err_set_errno(err, ERR_LIMIT, r, "cannot start the thread of the TAPs");
    }
    net->runs = true;
    net->uplink_fd = nets_uplink_open();
    if (net->uplink_fd < 0) {
        return err_set_errno(err, ERR_LIMIT, net->uplink_fd, "cannot watch the host's uplinks");
    }
    net->loop = loop;
    loop_call(loop, watch_uplinks, net);
    return 0;
}

/* What all VMs share stays for those that run on, and else not: nothing of ours is left. */
static void close_unused(struct nets *net)
{
    struct err err;
    bool unused;

    leaf_lock(&net->lock);
    unused = net->used_count == 0;
    leaf_unlock(&net->lock);
    if (unused && host_net_close(net->host, &err) < 0) {
        log_warn("the host's network is not as it was: %s", err.message);
    }
}

void nets_taps_end(struct nets *net)
{
    if (net->loop) {
        loop_call(net->loop, unwatch_uplinks, net);
    }
    cancel_trigger(net->stop);
    /* Before that VMs that run have not said what they have. */
    if (!net->runs) {
        return;
    }
    (void)pthread_join(net->thread, NULL);
    net->runs = false;
    leaf_lock(&net->lock);
    while (net->ready_count > 0) {
        struct ready_tap *r = &net->ready[--net->ready_count];

        close_p(&r->fd);
        push(net->idle, &net->idle_count, r->tap);
    }
    net->pool_size = 0;
    leaf_unlock(&net->lock);
    (void)delete_doomed(net); /* those that are left are found by the next daemon */
    close_unused(net);
}

/* ---- for VMs ---- */

static void mark_locked(struct nets *net, unsigned tap, bool used)
{
    net->tap_used[tap] = used;
    net->used_count += used ? 1 : -1U;
}

int nets_tap_take(struct nets *net, unsigned *ret_tap, int *ret_fd, struct err *err)
{
    struct ready_tap got = {.fd = -1};

    leaf_lock(&net->lock);
    if (net->ready_count > 0) {
        got = net->ready[--net->ready_count];
    }
    leaf_unlock(&net->lock);
    wake(net);
    /* A burst is faster than the thread. */
    if (got.fd < 0 && open_any(net, &got.tap, &got.fd, err) < 0) {
        return -1;
    }
    leaf_lock(&net->lock);
    mark_locked(net, got.tap, true);
    leaf_unlock(&net->lock);
    *ret_tap = got.tap;
    *ret_fd = got.fd;
    return 0;
}

void nets_tap_give(struct nets *net, unsigned tap)
{
    if (net->why_not || tap >= HOST_TAPS_MAX) {
        return;
    }
    leaf_lock(&net->lock);
    /* What is undone may be undone once more. */
    if (net->tap_used[tap]) {
        mark_locked(net, tap, false);
        push(net->idle, &net->idle_count, tap);
    }
    leaf_unlock(&net->lock);
    wake(net);
}

void nets_tap_keep(struct nets *net, unsigned tap)
{
    if (net->why_not || tap >= HOST_TAPS_MAX) {
        return;
    }
    leaf_lock(&net->lock);
    if (take_out(net->idle, &net->idle_count, tap) ||
        take_out(net->no_taps, &net->no_tap_count, tap)) {
        mark_locked(net, tap, true);
    }
    leaf_unlock(&net->lock);
}
