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
#define LINK_REQUESTS_MAX 1024      /* that wait for an answer at once */
#define LINK_URGENT_MAX (64 * 1024) /* for requests that the guest has not taken yet */

#define SESSION_BUCKETS 64

#define GUEST_SIGHUP 1 /* in the guest's numbering */

struct session_registry {
    /* immutable */
    struct loop *loop;
    session_event_fn fn;
    void *arg;
    const struct clock *clock;
    random_fn random;

    /* under lock */
    struct lock lock;
    struct list sessions; /* struct session, oldest first */
};

struct guest_link {
    /* immutable */
    struct loop *loop;
    struct session_registry *sessions;
    guest_link_fn fn;
    void *arg;
    bool adopted;
    char vm_id[ID_SIZE];
    random_fn random;
    uint8_t nonce[FRAME_NONCE_SIZE];
    struct latch hello; /* set when HELLO_OK came, or the link ended */

    /* written on the loop's thread before `hello` is set, not after */
    char agent_version[GUEST_VERSION_SIZE]; /* as the guest says; "" = it did not */
    uint16_t proto;                         /* version of the protocol that both speak */

    /* under wire, which any thread may take: who writes to fd. A request goes out by the thread
     * that makes it, so that it costs no wake-up of the loop. */
    struct lock wire;
    struct buf urgent;    /* HELLO and requests: before `out`, between its frames */
    size_t frame_left;    /* bytes of `out` that belong to a frame which is half written */
    struct list requests; /* struct request: those that wait for an answer */
    unsigned request_count;
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
    bool let_go;                          /* the VM goes on without us */
};

/* Most that an answer says beside its errno. */
#define GUEST_TOLD_MAX 512

/* Sends a request and waits for its answer. what: for errors. told: gets what came with the answer,
 * GUEST_TOLD_MAX bytes at most; or NULL. */
int guest_link_call(struct guest_link *link, uint8_t type, const char *what, const uint8_t *body,
                    size_t len, struct buf *told, struct cancel *cancel, int64_t deadline_ms,
                    struct err *err);

struct attach; /* attach.c: one client's connection */

struct session {
    /* immutable */
    struct session_registry *registry;
    char id[ID_SIZE];
    char vm_id[ID_SIZE];
    json_t *spec;    /* owned; without env when an earlier daemon started it */
    bool main, hold; /* as in session_start_params */
    bool files;     /* a file transfer or a report: it ends with its client, and leaves no record */
    bool report;    /* nobody's work: neither listed nor counted */
    bool shortened; /* of spec's command only the beginning is known */

    /* registry lock */
    struct list node; /* in the registry, oldest first */
    int refs;
    enum session_state state;
    int exit_code, exit_signal; /* -1: none */
    char *failure;              /* owned */
    int64_t started_ms, ended_ms;
    uint64_t out_bytes[FRAME_CHANNELS];
    unsigned readers;
    bool orphaned; /* its holder was a client of an earlier daemon, and did not come back so far */
    struct list waiters; /* struct waiter (session.c): who waits for a state */

    /* loop thread */
    struct guest_link *link; /* NULL when the link ended */
    struct list stream_node; /* in link->streams */
    uint32_t stream;
    bool drain;                        /* output is taken and dropped while there is no client */
    unsigned unsettled;                /* STARTED or FAILED that EXEC and ATTACH will bring */
    struct attach *client;             /* or NULL */
    bool abandoned;                    /* a file transfer whose client has gone */
    uint64_t stdin_acked, stdin_limit; /* last WINDOW of the agent for stdin */
    uint64_t stdin_offset;             /* bytes of stdin passed to the agent, by any client */
    uint64_t acked[FRAME_CHANNELS];    /* highest acknowledgement passed to the agent */
    uint64_t granted[FRAME_CHANNELS];  /* highest limit passed to the agent */
};

/* link.c */
struct session *link_find_stream(struct guest_link *link, uint32_t stream);
void link_add_stream(struct guest_link *link, struct session *s, uint32_t stream);
void link_kick(struct guest_link *link); /* there is something to write */
/* Ends the link and tells its owner; safe from within the link's own callbacks. */
void link_break(struct guest_link *link, const char *fmt, ...) _printf_(2, 3);

/* session.c: a frame of the agent for a session; -1 when it broke the protocol (why is set). */
int session_on_frame(struct session *s, const struct frame *f, const char **ret_why);
/* why: NULL = the daemon ends, and the session goes on without it. */
void session_on_link_lost(struct session *s, const char *why);
/* A session that nobody else has seen yet; spec is copied. */
struct session *session_new(struct session_registry *r, const char *vm_id, const json_t *spec);
/* Adds s to the records, dropping the oldest ended session of the VM when there are too many. */
int session_add(struct session_registry *r, struct session *s, struct err *err);
/* A reference to the session of the VM whose id is, or uniquely starts with, ref. */
struct session *session_find(struct session_registry *r, const char *vm_id, const char *ref,
                             struct err *err);
/* How a command ended, `skip` bytes into the payload. */
int session_take_how(const struct frame *f, size_t skip, int *ret_code, int *ret_signal);
struct session *session_get(struct session *s);
void session_put(struct session *s);
DEFINE_CLEANUP(struct session *, session_put);
static inline bool session_state_ended(enum session_state state)
{
    return state >= SESSION_EXITED;
}
/* The session has ended and its end frames will not come (again) from the agent: make them. */
void session_put_end_frames(struct session *s, struct buf *out);
/* A client has all of it: the agent may forget it. */
void session_on_delivered(struct session *s);
/* Tells the agent to forget it. */
void session_release(struct session *s);
void session_tell(struct session *s, enum session_event event);
void session_set_readers(struct session *s, unsigned readers);
/* There is no client any more: output is drained again where that is wanted. */
void session_on_client_left(struct session *s);

/* adopt.c: the agent lists a session of an earlier daemon. -1 when it broke the protocol. */
int session_adopt(struct guest_link *link, const struct frame *f, const char **ret_why);

/* record.c: what is kept of a session in its guest. The text is at most FRAME_RECORD_MAX bytes;
 * free it. What is read back is valid in itself, but may be a lie of the guest's; from what is no
 * record comes one without id and command. */
struct session_record {
    char id[ID_SIZE]; /* "" = none */
    json_t *spec;     /* owned; as api_session_spec describes it, without env */
    int64_t started_ms;
    bool main, hold, drain, shortened;
};
char *session_record_encode(const struct session *s);
void session_record_parse(const void *data, size_t len, int64_t now_ms, struct session_record *ret);

/* exec_spec.c: appends the TLVs of a spec (api_session_spec, validated); body's maximum bounds
 * them. */
int exec_spec_encode(const json_t *spec, struct buf *body, struct err *err);
int exec_spec_too_large(const json_t *spec, struct err *err); /* body is full: ERR_LIMIT */

/* attach.c */
void attach_new(struct loop *loop, struct session *s, int fd, const void *early, size_t len);
/* Passes a frame of the agent on to the client. `a` may be gone afterwards. */
void attach_forward(struct attach *a, const struct frame *f);
/* Whether the agent says what cannot be, after what it has said to this client: then bytes would
 * be missing, and the client wait for ever. */
bool attach_is_lied_to(const struct attach *a, const struct frame *f);
/* Tells the client why (FATAL) and ends its connection once that is written. */
void attach_end(struct attach *a, const char *why);
/* Ends its connection without a word: the client may come back, to the next daemon. */
void attach_drop(struct attach *a);
/* The link has room for session bytes again. */
void attach_resume(struct attach *a);
struct list *attach_starved_node(struct attach *a);
struct attach *attach_of_starved(struct list *node);
