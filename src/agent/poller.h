/*
 * The agent's epoll loop: file descriptors with a handler each. It may close any source, also from
 * within a handler: events of closed sources that were already fetched are dropped.
 * Threads: one. Failures: -errno.
 */
#pragma once

#include "base/attr.h"

#include <stdint.h>
#include <sys/epoll.h>

#define POLLER_BATCH 64

struct source {
    int fd; /* -1: not watched */
    void (*handle)(struct source *source, uint32_t events);
    void *owner;
};

struct poller {
    int epoll_fd;
    int count; /* events of the batch being dispatched */
    int at;    /* the one being handled */
    struct epoll_event events[POLLER_BATCH];
};

int poller_init(struct poller *p) _must_check_;

/* Watches fd, which the source owns from then on (on failure too: it is closed). 0 or -errno. */
int poller_add(struct poller *p, struct source *source, int fd, uint32_t events) _must_check_;

/* Stops watching and closes; nothing when it is closed already. */
void poller_close(struct poller *p, struct source *source);

/* Stops watching and hands the descriptor to the caller; -1 when it is closed already. */
int poller_steal(struct poller *p, struct source *source);

/* Waits for events, at most timeout_ms (-1: for ever), and calls their handlers. 0 or -errno. */
int poller_turn(struct poller *p, int timeout_ms) _must_check_;
