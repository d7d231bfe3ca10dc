/* Between server.c, connection.c and call.c. Everything is the loop thread's, except where a band
 * says otherwise. */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "base/spare.h"
#include "codec/api_write.h"
#include "rpc/outlet.h"
#include "rpc/pool.h"
#include "rpc/server.h"

struct rpc_server {
    /* immutable */
    struct loop *loop;
    struct pool *pool;
    struct spare *slow; /* for what may wait */
    uid_t owner;
    const char *version;
    const struct rpc_handler *handlers;
    void *ctx;

    /* loop thread */
    int listen_fd;
    struct loop_source *listen_source, *listen_again;
    struct list connections;
    unsigned connection_count, slow_count, call_count, hook_count;
    bool closing;
    struct latch *drained; /* set when closing and nothing of ours is left */
};

struct connection {
    /* any thread */
    struct outlet out;

    /* loop thread */
    struct list node;
    struct rpc_server *server; /* immutable */
    int fd;                    /* -1 once closed */
    struct loop_source *source;
    struct buf in;
    struct list calls;
    unsigned call_count;
    struct list hooks;
    bool dead;              /* its free is posted */
    bool paused;            /* a take-over is being decided: the rest of `in` may be frames */
    struct rpc_call *taker; /* its reply is in `out`: hand over when that is written */
};

struct rpc_call {
    /* immutable */
    struct connection *connection;
    const struct api_method *method;
    rpc_fn fn;
    json_t *id, *params;
    struct cancel *cancel;  /* NULL with API_LATER */
    struct rpc_later later; /* with API_LATER; set by the handler */

    /* who answers, then loop thread */
    struct api_writer *writer; /* of the result, into `line`; NULL: it is a tree */
    struct buf line;
    char *reply;
    bool sent; /* `reply` has gone to the outlet */
    bool failed;
    rpc_takeover_fn take_over;
    void *take_over_arg;

    /* loop thread */
    struct list node;
    struct loop_source *timer; /* later.deadline_ms */
};

/* server.c: to be called when a call, a connection or a hook has ended. */
void server_check_drained(struct rpc_server *s);

/* connection.c */
/* Takes fd. */
void connection_new(struct rpc_server *s, int fd);
/* Ends it; it is freed when its last call is. */
void connection_close(struct connection *c);
void connection_free_if_done(struct connection *c);
/* Sends a line, or what is kept. False when the connection ended. */
bool connection_send(struct connection *c, const char *line);
bool connection_flush(struct connection *c);
/* Runs the requests that have come. */
void connection_process(struct connection *c);
/* The end of a take-over: fd is -1 when the client is gone. */
void connection_hand_over(struct connection *c, int fd);

/* call.c */
/* A line has come: it is answered, or begun. */
void call_on_message(struct connection *c, const char *line, size_t len);
void call_refuse(struct connection *c, const json_t *id, const struct err *err);
void calls_cancel(struct connection *c);
void call_free(struct rpc_call *call);
/* The handler of a method, or NULL. */
rpc_fn call_find_handler(const struct rpc_server *s, const char *method);
