/*
 * JSON-RPC 2.0, one message a line (https://www.jsonrpc.org/specification, without batches).
 * Pure: text <-> struct. Lines are at most RPC_LINE_MAX bytes without the newline.
 */
#pragma once

#include "base/buf.h"
#include "codec/json.h"

#define RPC_LINE_MAX (1024 * 1024)
#define RPC_ID_MAX 1024

struct rpc_message {
    json_t *id;     /* integer, or string of at most RPC_ID_MAX bytes; NULL in a notification */
    char *method;   /* request or notification */
    json_t *params; /* an object, never NULL in a request or notification */
    json_t *result; /* reply: result, or error below */
    json_t *error;
};

/* Parses one line. ERR_INVALID for what is no JSON-RPC 2.0 request, notification or reply; then
 * *ret_message may still hold the id, so that the error can be answered. Always rpc_message_done
 * it. */
int rpc_parse(const char *line, size_t len, struct rpc_message *ret_message, struct err *err);
void rpc_message_done(struct rpc_message *m);
#define _cleanup_rpc_message_ _cleanup_(rpc_message_done)

/* One line each, newline included; free it. params and result are stolen; id is borrowed. */
char *rpc_request(long long id, const char *method, json_t *params);
char *rpc_notification(const char *method, json_t *params);
char *rpc_result(const json_t *id, json_t *result);
/* The same around a result that is written between the two calls. 0 or -ENOBUFS. */
int rpc_result_begin(struct buf *line, const json_t *id) _must_check_;
int rpc_result_end(struct buf *line) _must_check_;
/* op and object go into error.data when they are not NULL; id NULL = null. */
char *rpc_error(const json_t *id, const struct err *e, const char *op, const char *object);

/* An error object as in rpc_error's "error" member, and back. */
json_t *rpc_error_object(const struct err *e, const char *op, const char *object);
void rpc_error_read(const json_t *object, struct err *ret_err);
