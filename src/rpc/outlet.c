#include "rpc/outlet.h"

#include <errno.h>
#include <string.h>

void outlet_init(struct outlet *o, int fd, size_t max)
{
    lock_init(&o->lock);
    o->fd = fd;
    buf_init(&o->unsent, max);
}

void outlet_done(struct outlet *o)
{
    buf_done(&o->unsent);
    lock_done(&o->lock);
}

void outlet_close(struct outlet *o)
{
    leaf_lock(&o->lock);
    o->fd = -1;
    leaf_unlock(&o->lock);
}

static int flush_locked(struct outlet *o) REQUIRES(rank_leaf)
{
    while (o->unsent.len > 0) {
        ssize_t n = buf_write_fd(&o->unsent, o->fd);

        if (n == -EAGAIN) {
            return 0;
        }
        if (n < 0) {
            return (int)n;
        }
    }
    return 0;
}

int outlet_send(struct outlet *o, const char *text, bool *ret_unsent)
{
    int r = -EPIPE;

    leaf_lock(&o->lock);
    if (o->fd >= 0) {
        /* Behind something that waits for room there is none. */
        r = o->unsent.len > 0 ? buf_append_str(&o->unsent, text)
                              : buf_write_through(&o->unsent, o->fd, text, strlen(text));
    }
    *ret_unsent = o->unsent.len > 0;
    leaf_unlock(&o->lock);
    return r;
}

int outlet_flush(struct outlet *o, bool *ret_unsent)
{
    int r;

    leaf_lock(&o->lock);
    r = o->fd < 0 ? -EPIPE : flush_locked(o);
    *ret_unsent = o->unsent.len > 0;
    leaf_unlock(&o->lock);
    return r;
}

size_t outlet_unsent(struct outlet *o)
{
    size_t len;

    leaf_lock(&o->lock);
    len = o->unsent.len;
    leaf_unlock(&o->lock);
    return len;
}
