/*
 * The sessions of one guest: each a command with its streams, kept until the host releases it.
 * Output stays in a ring until the host has acknowledged it, so a broken link loses nothing: after
 * a new HELLO all sessions are detached and keep silent, until the host attaches them again. What
 * the host wrote down of a session (its record) is kept with it, and told to the next host.
 *
 * A command's exit does not wait for whoever else holds its pipes: what is in them at that moment
 * is still sent, later bytes are read and thrown away, so that a background process is not killed
 * by SIGPIPE. A terminal is hung up instead.
 * Threads: one. Everything that the host can make grow is bounded here.
 */
#pragma once

#include "agent/child.h"
#include "agent/stream.h"

#define SESSION_MAX 1024
#define SESSION_BUCKETS 256

/* The seam of the fuzzer, which must start and signal nothing. */
struct session_ops {
    int (*start)(struct spec *spec, const struct child_env *env, struct child *ret,
                 struct failure *ret_failure);
    void (*signal)(pid_t group, int sig);
};

extern const struct session_ops session_real_ops;

struct session {
    struct stream_owner owner; /* first: the streams' way to their session */
    struct sessions *all;
    struct session *next_in_bucket;
    struct session *next_ready;
    uint32_t id;
    enum frame_session_state state;
    bool attached;
    bool released;            /* the host has forgotten it; waits for its process */
    struct ready_list *ready; /* in the list of those that may have something to send */
    bool state_due;
    bool end_due; /* tell of the process's end now, ahead of its output */
    bool exit_sent;
    bool list_due; /* a new host has not been told of it yet */
    bool tty;
    bool files; /* a file transfer, which ends with the host that asked for it */
    bool turn;  /* which channel is first, so that neither starves the other */
    pid_t pid;
    int status; /* of wait() */
    struct failure *failure;
    uint8_t *record; /* the host's, or NULL */
    size_t record_len;
    struct input in;
    struct channel out[2]; /* stdout, stderr */
};

struct ready_list {
    struct session *first;
    struct session *last;
};

struct sessions {
    struct stream_env streams;
    const struct session_ops *ops;
    struct child_env env;
    bool closed; /* the machine goes down: no new ones */
    unsigned count;
    unsigned running; /* processes not yet reaped */
    struct session *buckets[SESSION_BUCKETS];
    struct session *released; /* linked by next_in_bucket */
    /* Those that may have something to send, each a frame in turn. Who had nothing until now goes
     * first, once: a few bytes do not wait for a frame of everybody who has many. */
    struct ready_list fresh;
    struct ready_list busy;
    uint32_t spec_id; /* the EXEC that arrives in pieces, or 0 */
    bool spec_too_long;
    struct buf spec;
};

void sessions_init(struct sessions *all, struct poller *poller, const struct session_ops *ops);

/* Frees all, without signals; for tests. */
void sessions_done(struct sessions *all);

/* A frame of a session. At most one frame goes to out directly (to a session that is not there). */
void sessions_frame(struct sessions *all, const struct frame *f, struct buf *out);

/* A generation of the link has ended. */
void sessions_detach(struct sessions *all);

/* A host has been greeted: sessions_next begins with a SESSION frame for each session. Their
 * number. */
unsigned sessions_list(struct sessions *all);

/* Appends one frame of the session whose turn it is, or, when no other wants one, lends some in
 * *piece (unless that is NULL). False when there is nothing to send. */
bool sessions_next(struct sessions *all, struct buf *out, struct link_piece *piece);

/* A child has ended. Not every child is a session's. */
void sessions_reaped(struct sessions *all, pid_t pid, int status);

/* To every session's process group. */
void sessions_signal(struct sessions *all, int sig);
