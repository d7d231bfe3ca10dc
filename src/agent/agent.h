/*
 * The agent's parts put together: link, sessions, requests and the children of all. One thread, one
 * epoll loop, nothing blocks. main.c serves a guest's port with it, fakevmm/ a host's socket.
 * Failures: -errno.
 */
#pragma once

#include "agent/link.h"
#include "agent/request.h"
#include "agent/session.h"

struct agent {
    bool live; /* in a guest */
    struct poller poller;
    struct link link;
    struct sessions sessions;
    struct requests requests;
    struct source signals;
};

struct agent_params {
    bool live;
    struct init *init; /* NULL, or PID 1 is the image's, and ends this process with the rest */
    /* The seams of the fake VMM; NULL: the agent's own. */
    const struct link_ops *link_ops; /* their ctx is the struct agent */
    const struct session_ops *session_ops;
};

extern const struct link_ops agent_link_ops;

/* 0, 1 and 2 exist, and no child inherits anything else. */
void agent_set_descriptors(void);

/* Takes over the process's signals and limits. Opens no link. On failure too, agent_done may be
 * called. */
int agent_init(struct agent *a, const struct agent_params *params) _must_check_;

/* Kills the sessions that are left and frees. */
void agent_done(struct agent *a);

/* Until the machine is to end, or a link with one_host has ended; negative: the loop itself is
 * broken. */
int agent_serve(struct agent *a) _must_check_;
