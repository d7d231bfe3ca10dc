/*
 * The agent's end of the byte stream to the host (codec/frame.h): takes frames out of whatever
 * bytes arrive, finds its way back after garbage, and sends control frames first, then what the
 * sessions have, a frame at a time. It holds at most LINK_IN_MAX + LINK_OUT_MAX bytes, and takes
 * no input while it has no room for the answers.
 *
 * A generation begins with a HELLO, and ends with garbage or the next HELLO. A virtio port's end
 * of file says nothing: it stays usable, and the kernel (6.1) learns of a disconnect and of the new
 * connection on another queue than the bytes come by, so that the end of file of the old host may
 * be read behind the HELLO of the new one. Only what the bytes say is in order.
 * Threads: one.
 */
#pragma once

#include "agent/poller.h"
#include "base/buf.h"
#include "codec/frame.h"

#include <stdbool.h>

#define LINK_IN_MAX ((size_t)2 * FRAME_MAX)
#define LINK_OUT_MAX ((size_t)64 * 1024)
#define LINK_ANSWER_MAX                                                                            \
    1024 /* most bytes of frames that one frame of the host is answered with                       \
          */
#define LINK_FILL_MAX ((size_t)48 * 1024) /* sessions do not fill the buffer beyond this */
#define LINK_FATAL_MAX 512

/* Frames that are sent from where they lie: until the write that follows, and no longer. */
struct link_piece {
    const uint8_t *data;
    size_t len; /* 0: none */
};
#define LINK_PIECE_MAX ((size_t)2 * FRAME_MAX) /* what a virtio port takes with one write */

struct link_ops {
    /* A frame of a greeted host, not HELLO or PING. At most LINK_ANSWER_MAX go to out. */
    void (*frame)(void *ctx, const struct frame *frame, struct buf *out);
    /* A generation has ended: nothing of the sessions is sent until they are attached again. */
    void (*ended)(void *ctx);
    /* HELLO_OK is sent: how many SESSION frames next will begin with. */
    unsigned (*sessions)(void *ctx);
    /* Appends one frame of a session, or lends some in *piece (NULL: not now); false when none has
     * anything to send. */
    bool (*next)(void *ctx, struct buf *out, struct link_piece *piece);
};

struct link {
    struct source source;
    const struct link_ops *ops;
    void *ctx;
    const char *version;        /* of the agent, for HELLO_OK */
    char fatal[LINK_FATAL_MAX]; /* why HELLO is answered with FATAL, or "" */
    bool greeted;
    bool lost;     /* input is garbage: looking for a HELLO */
    bool readable; /* an edge was seen, no EAGAIN yet */
    bool writable;
    bool one_host; /* a socket: its end is final */
    bool ended;    /* and was reached */
    size_t begun;  /* bytes left of the frame at the head of out that has been written in part */
    struct buf in;
    struct buf out;
};

void link_init(struct link *link, const struct link_ops *ops, void *ctx, const char *version);
void link_done(struct link *link, struct poller *poller);

/* Watches the port or, with one_host set before, the socket (nonblocking), which the link owns
 * from then on. 0 or -errno. */
int link_open(struct link *link, struct poller *poller, int fd) _must_check_;

/* Of a link with one_host: forgets this host, so that the next one can be opened. */
void link_close(struct link *link, struct poller *poller);

/* From now on the agent cannot go on; says so at once, and to each HELLO. */
void link_fail(struct link *link, const char *reason);

/* Reads, handles and writes as much as is possible now, within a budget. Returns whether there is
 * more to do at once. */
bool link_turn(struct link *link);

/* The parts of link_turn that do no I/O. link_feed takes as many bytes as there is room for and
 * returns their number; link_process handles the frames in the buffer. */
size_t link_feed(struct link *link, const uint8_t *data, size_t len);
void link_process(struct link *link);
void link_fill(struct link *link);
