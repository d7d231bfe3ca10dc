/*
 * The streams of one session. A channel carries stdout or stderr to the host: a descriptor that is
 * read into a ring as far as there is room, and a window that the host moves. The input carries
 * stdin the other way, with the window that we give.
 *
 * Descriptors are watched for edges; whoever makes room reads again. Threads: one.
 */
#pragma once

#include "agent/link.h"
#include "agent/poller.h"
#include "agent/ring.h"
#include "base/buf.h"
#include "codec/frame.h"

#include <stdbool.h>

/* Most stdin that may be on its way to a session, or in its buffer: what the link holds while a
 * WINDOW goes to the host's client and data comes back. Once STREAM_INPUT_POOL_MAX are promised to
 * all sessions together, a session gets less. */
#define STREAM_INPUT_MAX ((size_t)256 * 1024)
#define STREAM_INPUT_SMALL ((size_t)64 * 1024)
#define STREAM_INPUT_POOL_MAX ((size_t)16 * 1024 * 1024)
#define STREAM_DRAINS_MAX 2048 /* abandoned pipes that are still read */
/* Of a terminal whose command has ended: most bytes that are still taken, should others write. */
#define STREAM_HANGUP_MAX ((size_t)128 * 1024)

/* Most VEOFs for one END. A shell that was running something lost one; a program without canonical
 * mode may take it for an ordinary key. */
#define STREAM_EOFS 16

/* What all streams share. */
struct stream_env {
    struct poller *poller;
    struct ring_pool pool;
    size_t promised; /* bytes of stdin, to all sessions */
    unsigned drain_count;
    struct drain *drains; /* pipes that nobody wants any more, but that have writers */
};

void stream_env_init(struct stream_env *env, struct poller *poller);
void stream_env_done(struct stream_env *env);

/* Who hears that a stream may have something to send. */
struct stream_owner {
    void (*wake)(struct stream_owner *owner);
};

struct channel {
    struct source source;
    struct stream_env *env;
    struct stream_owner *owner;
    struct ring ring;
    uint64_t sent;
    uint64_t limit;
    size_t last; /* when finishing: bytes that are still taken */
    bool terminal;
    bool hung_up;   /* nobody has the other end open: behind what is there is its end */
    bool finishing; /* the command has ended */
    bool eof;       /* no byte will be added: the ring's end is the total */
    bool end_sent;
};

struct input {
    struct source source;
    struct stream_env *env;
    struct stream_owner *owner;
    struct buf buf;
    uint64_t received; /* bytes that came, in the buffer or through it */
    uint64_t granted;  /* the last limit that was sent */
    size_t promised;   /* its part of env->promised */
    bool enabled;
    bool terminal;
    bool ended;
    bool mid_line; /* the last byte ended no line */
    unsigned eofs; /* of a terminal: how often VEOF may still be typed */
    bool window_due;
};

/* init: no descriptor yet, nothing will come. open: owns fd (-1: none). done: frees. */
void channel_init(struct channel *c, struct stream_env *env, struct stream_owner *owner);
void channel_open(struct channel *c, int fd, bool terminal);
void channel_done(struct channel *c);

/* The command has ended: what is in a pipe now is the last; a terminal is hung up when read. */
void channel_finish(struct channel *c);

/* Nobody wants the rest. */
void channel_abandon(struct channel *c);

/* A WINDOW of the host; one that cannot be true is ignored. */
void channel_window(struct channel *c, uint64_t acked, uint64_t limit);

/* For ATTACH: starts again behind what is acknowledged, with a closed window. */
void channel_rewind(struct channel *c);

/* Appends one DATA or END, when one may be sent; or lends, when piece is not NULL, DATA from where
 * it lies. */
bool channel_put(struct channel *c, uint32_t id, uint8_t number, struct buf *out,
                 struct link_piece *piece);

void input_init(struct input *in, struct stream_env *env, struct stream_owner *owner);
void input_open(struct input *in, int fd, bool terminal);
void input_close(struct input *in);
void input_done(struct input *in);

/* DATA and END of the host. Bytes that came before are skipped; what leaves a gap or lies beyond
 * the window is ignored. A terminal's END is typed, as VEOF, when the command has read all before
 * it, and again when it reads on, STREAM_EOFS times: the end of a file, too, is read again and
 * again. */
void input_data(struct input *in, uint64_t offset, const uint8_t *data, size_t len);
void input_end(struct input *in, uint64_t offset);

/* For ATTACH: tells the host again how far we are. */
void input_tell(struct input *in);

/* Is a WINDOW due? Then appends it. */
bool input_put(struct input *in, uint32_t id, struct buf *out);
