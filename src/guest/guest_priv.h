/* Between link.c, session.c and attach.c. Everything here is the guest loop's thread only, except
 * where a band says otherwise. */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "base/thread.h"
#include "codec/frame.h"
#include "guest/link.h"
#include "guest/session.h"

#define LINK_IN_MAX (2 * FRAME_MAX)
/* Room for control frames and the largest EXEC; session bytes stop at LINK_DATA_HIGH. */
#define LINK_OUT_MAX (2 * 1024 * 1024)
#define LINK_DATA_HIGH (64 * 1024)
#define LINK_URGENT_MAX (64 * 1024) /* for requests that the guest has not taken yet */

#define SESSION_BUCKETS 64

struct guest_link {
    /* immutable */
    struct loop *loop;
    struct session_registry *sessions;
    guest_link_fn fn;
    void *arg;
    bool adopted;
    uint8_t nonce[FRAME_NONCE_SIZE];
    struct latch hello; /* set when HELLO_OK came, or the link ended */

    /* under wire, which any thread may take: who writes to fd. A request goes out by the thread
     * that makes it, so that it costs no wake-up of the loop. */
    struct lock wire;
    struct buf urgent;    /* HELLO and requests: before `out`, between its frames */
    size_t frame_left;    /* bytes of `out` that belong to a frame which is half written */
    struct list requests; /* struct request: those that wait for an answer */
    uint32_t last_request;

    /* loop thread */
    int fd;        /* -1 once ended; changed under wire */
    char why[256]; /* why it ended; set before that */
    struct loop_source *source;
    struct buf in, out;
    bool up;
    bool greeted;          /* HELLO_OK came; the list of its sessions may still be coming */
    uint32_t to_be_listed; /* how many */
    uint32_t last_stream;
    struct list streams[SESSION_BUCKETS]; /* struct session by stream number */
    struct list starved;                  /* struct attach that wait for room in `out` */
};

struct attach; /* attach.c: one client's connection */

struct session {
    /* immutable */
    struct session_registry *registry;
    char id[ID_SIZE];
    char vm_id[ID_SIZE];
    json_t *spec; /* owned */
    bool drain;

    /* registry lock */
    struct list node; /* in the registry, oldest first */
    int refs;
    enum session_state state;
    int exit_code, exit_signal; /* -1: none */
    char *failure;              /* owned */
    int64_t started_ms, ended_ms;
    uint64_t out_bytes[FRAME_CHANNELS];
    unsigned readers;
    struct list waiters; /* struct waiter (session.c): who waits for a state */

    /* loop thread */
    struct guest_link *link; /* NULL when the link ended */
    struct list stream_node; /* in link->streams */
    uint32_t stream;
    struct attach *client;             /* or NULL */
    uint64_t stdin_acked, stdin_limit; /* last WINDOW of the agent for stdin */
    uint64_t stdin_offset;             /* bytes of stdin passed to the agent, by any client */
    uint64_t acked[FRAME_CHANNELS];    /* highest acknowledgement passed to the agent */
    uint64_t granted[FRAME_CHANNELS];  /* highest limit passed to the agent */
};

/* link.c */
struct session *link_find_stream(struct guest_link *link, uint32_t stream);
void link_add_stream(struct guest_link *link, struct session *s);
void link_kick(struct guest_link *link); /* there is something to write */
/* Ends the link and tells its owner; safe from within the link's own callbacks. */
void link_break(struct guest_link *link, const char *fmt, ...) _printf_(2, 3);

/* session.c: a frame of the agent for a session; -1 when it broke the protocol (why is set). */
int session_on_frame(struct session *s, const struct frame *f, const char **ret_why);
void session_on_link_lost(struct session *s, const char *why);
struct session *session_get(struct session *s);
void session_put(struct session *s);
/* The session has ended and its end frames will not come (again) from the agent: make them. */
void session_put_end_frames(struct session *s, struct buf *out);
/* Tells the agent to forget it. */
void session_release(struct session *s);
void session_tell(struct session *s, enum session_event event);
void session_set_readers(struct session *s, unsigned readers);
/* There is no client any more: output is drained again where that is wanted. */
void session_on_client_left(struct session *s);

/* exec_spec.c: appends the TLVs of a spec (api_session_spec, validated); body's maximum bounds
 * them. */
int exec_spec_encode(const json_t *spec, struct buf *body, struct err *err);

/* attach.c */
void attach_new(struct loop *loop, struct session *s, int fd, const void *early, size_t len);
/* Passes a frame of the agent on to the client. True when the client has all of the session now,
 * its end included. `a` may be gone afterwards. */
bool attach_forward(struct attach *a, const struct frame *f);
/* Tells the client why (FATAL) and ends its connection once that is written. */
void attach_end(struct attach *a, const char *why);
/* The link has room for session bytes again. */
void attach_resume(struct attach *a);
struct list *attach_starved_node(struct attach *a);
struct attach *attach_of_starved(struct list *node);
