/*
 * The JSON-RPC server on the daemon's socket: accepts, checks who is there, reads lines, validates
 * them by the method table (codec/api.h), runs handlers on a small pool or, for methods that may
 * wait, on a thread each, and writes the replies in any order. A client that hangs up cancels its
 * requests. Connections belong to the control loop's thread; a handler gets a `struct rpc_call`.
 * Bounds: connections, calls in flight, line length, unread output; beyond them, ERR_LIMIT or the
 * end of the connection.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/loop.h"
#include "codec/api_write.h"

#include <sys/types.h>

struct rpc_server;
struct rpc_call;

/* Answers one request. params are validated and have their defaults: read them with api_str and its
 * like. On success *ret_result is new, NULL means {}; one that is not what the table promises is
 * logged, and the client gets ERR_INTERNAL. */
typedef int (*rpc_fn)(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                      struct err *err);

struct rpc_handler {
    const char *method; /* of api_methods */
    rpc_fn fn;
};

/* Serves listen_fd (taken) with the handlers (ends with a NULL method; one for each method of the
 * table but rpc.*). Peers other than owner and root are refused. version is for rpc.discover. */
int rpc_server_new(struct loop *loop, int listen_fd, uid_t owner, const char *version,
                   const struct rpc_handler *handlers, void *ctx, struct rpc_server **ret_server,
                   struct err *err);

/* Stops accepting, ends all connections (their hooks run), waits for handlers, frees. NULL is
 * fine. Not on the loop's thread. */
void rpc_server_free(struct rpc_server *s);

/* ---- for handlers, on the handler's thread ---- */

/* For a result that may be large: it is written straight into the reply's line, from now until the
 * handler returns, instead of *ret_result. members as for api_write_begin. Borrowed; the handler
 * does not end it. For methods without API_LATER. */
struct api_writer *rpc_call_writer(struct rpc_call *call, const json_t *members);

/* Triggered when the client cancels or hangs up. Borrowed. Not for methods with API_LATER. */
struct cancel *rpc_call_cancel(struct rpc_call *call);

/* For methods with API_LATER: the handler runs on the loop's thread, must not wait, and calls
 * rpc_call_later before it begins what it begins. When it returns 0, without a result, the call is
 * answered by rpc_call_answer, once, from any thread. */
struct rpc_later {
    int64_t deadline_ms; /* clock_mono_ms() value, or -1 */
    void *arg;
    /* On the loop's thread: the client has cancelled or hung up (ERR_CANCELLED), or the deadline
     * has passed (ERR_TIMEOUT). True, with err set: nobody else answers any more. False: somebody
     * does, or has. */
    bool (*give_up)(void *arg, enum err_code why, struct err *err);
    void (*done)(void *arg); /* on the loop's thread: it is answered */
};
void rpc_call_later(struct rpc_call *call, const struct rpc_later *later);

/* result is stolen, NULL means {}; err is set instead for a failure. `call` is gone then. */
void rpc_call_answer(struct rpc_call *call, json_t *result, const struct err *err);

/* Sends a notification before the reply; params are stolen. False: it was dropped, because the
 * client lags or is gone, or (and logged) because it is not what the table promises. */
bool rpc_call_notify(struct rpc_call *call, const char *method, json_t *params);

/* fn(arg) runs once, on a thread of its own, when the connection ends (at once if it has). */
typedef void (*rpc_closed_fn)(void *arg);
void rpc_call_on_close(struct rpc_call *call, rpc_closed_fn fn, void *arg);

/* For methods with API_TAKES_OVER: once the reply is written, fn gets the connection's fd (to own)
 * and the bytes that came after the request. It runs on a pool thread, also when the client hung
 * up in between; fd is then -1, and only arg is to be freed. */
typedef void (*rpc_takeover_fn)(void *arg, int fd, const void *early, size_t early_len);
void rpc_call_take_over(struct rpc_call *call, rpc_takeover_fn fn, void *arg);
