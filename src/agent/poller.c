#include "agent/poller.h"

#include <errno.h>

int poller_init(struct poller *p)
{
    *p = (struct poller){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    return p->epoll_fd < 0 ? -errno : 0;
}

int poller_add(struct poller *p, struct source *source, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int r = -errno;

        (void)close(fd);
        return r;
    }
    source->fd = fd;
    return 0;
}

int poller_steal(struct poller *p, struct source *source)
{
    int fd = STEAL_FD(source->fd);

    if (fd < 0) {
        return -1;
    }
    (void)epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    for (int i = p->at + 1; i < p->count; i++) {
        if (p->events[i].data.ptr == source) {
            p->events[i].data.ptr = NULL;
        }
    }
    return fd;
}

void poller_close(struct poller *p, struct source *source)
{
    int fd = poller_steal(p, source);

    close_p(&fd);
}

int poller_turn(struct poller *p, int timeout_ms)
{
    p->at = -1;
    p->count = epoll_wait(p->epoll_fd, p->events, POLLER_BATCH, timeout_ms);
    if (p->count < 0) {
        p->count = 0;
        return errno == EINTR ? 0 : -errno;
    }
    for (p->at = 0; p->at < p->count; p->at++) {
        struct source *source = p->events[p->at].data.ptr;

        if (source) {
            source->handle(source, p->events[p->at].events);
        }
    }
    p->count = 0;
    return 0;
}
