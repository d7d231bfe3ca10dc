/*
 * A connection to the daemon: JSON-RPC calls, one at a time, and take-over of the connection for
 * byte streams. Nothing here writes to the terminal. Threads: the owner's.
 * Failure: struct err; one that the daemon sent keeps its code, and its operation is in
 * client_error_op. After ERR_IO the connection is of no more use.
 */
#pragma once

#include "base/buf.h"
#include "base/paths.h"
#include "codec/json.h"

struct client;

struct client_params {
    const struct paths *paths; /* borrowed for the call */
    bool start;                /* start the daemon when none listens */
    bool trace;                /* names of calls and their times on stderr */
};

/* Connects to the daemon, which must be the owner's or root's, and starts one when none listens
 * and params->start is set. ERR_NOT_RUNNING when none listens, ERR_DENIED, ERR_IO. */
int client_connect(const struct client_params *params, struct client **ret_client, struct err *err);
void client_free(struct client *c);
DEFINE_CLEANUP(struct client *, client_free);
#define _cleanup_client_ _cleanup_(client_free_p)

/* The daemon's program: beside ours, else in ../libexec, else the name alone, for PATH. Free it. */
char *client_find_daemon(void);

/* What `bangerd --doctor` says: an array of Finding objects. For when no daemon answers; it starts
 * none. ERR_IO, ERR_TIMEOUT. */
int client_doctor(const struct paths *paths, json_t **ret_findings, struct err *err);

/* Process id of the daemon, as the kernel tells it. */
pid_t client_daemon_pid(const struct client *c);

/* Calls a method; params (an object, or NULL for none) is stolen. The caller owns *ret_result. A
 * method without API_SLOW must answer within a minute: ERR_TIMEOUT. */
int client_call(struct client *c, const char *method, json_t *params, json_t **ret_result,
                struct err *err);

/* What may happen while a call waits. All members may be NULL or -1; they get arg. */
struct client_watch {
    void (*notify)(void *arg, const char *method, const json_t *params);
    int wake_fd;            /* when readable, wake is called */
    int (*wake)(void *arg); /* -1: give up waiting, with ERR_CANCELLED */
    int (*tick)(void *arg); /* before each wait: milliseconds until its next call, -1 = never */
    void *arg;
};
int client_call_watched(struct client *c, const char *method, json_t *params,
                        const struct client_watch *watch, json_t **ret_result, struct err *err);

/* How one of several calls ended: with a result (the caller's), or NULL and the error. Not
 * `answered`: the connection broke before. */
struct client_reply {
    bool answered;
    json_t *result;
    struct err err;
};

/* Calls one method with each of the params, which are stolen, several at a time; the daemon may
 * work on them in any order. replies has room for count. -1 when the connection broke: what it
 * says is in err, and replies has what came before. */
int client_call_all(struct client *c, const char *method, json_t **params, size_t count,
                    struct client_reply *replies, struct err *err);

/* Sends a request; whoever wants its reply asks for it before the next request is sent. Usable
 * within the callbacks above. */
int client_send(struct client *c, const char *method, json_t *params, struct err *err);
/* The reply to the last request, of this method. */
int client_await(struct client *c, const char *method, json_t **ret_result, struct err *err);

/* The operation named by the last error that the daemon sent, or "". */
const char *client_error_op(const struct client *c);

/* After a method with API_TAKES_OVER: hands out the socket (non-blocking) and, in *ret_rest (not
 * initialised before), what came behind the reply; the client may then only be freed. */
int client_take_over(struct client *c, struct buf *ret_rest);
