/*
 * A QMP client on a loop: commands with ids and replies, and events. All functions and callbacks
 * are for the loop's thread. What the peer may make us hold is bounded (QMP_LINE_MAX, one reply per
 * command, QMP_PENDING_MAX commands); any breach of the protocol ends the connection.
 */
#pragma once

#include "base/err.h"
#include "base/loop.h"

#include <jansson.h>
#include <stdbool.h>

#define QMP_LINE_MAX (1U << 20)
#define QMP_PENDING_MAX 32

struct qmp;

struct qmp_handler {
    /* What the server says about itself, once and first; may be NULL. */
    void (*greeting)(void *arg, const json_t *data);
    /* data may be NULL; both are the client's. Neither function may free the client. */
    void (*event)(void *arg, const char *name, const json_t *data);
    /* The connection ended by itself, once; every command has had its (failed) reply before. */
    void (*closed)(void *arg, const struct err *why);
    void *arg;
};

/* Exactly one of result (the client's) and err is given. */
typedef void (*qmp_reply_fn)(void *arg, const json_t *result, const struct err *err);

/* Takes over fd, a connected non-blocking stream socket. Commands may follow at once: they are
 * written behind the handshake, whenever the server is ready for it. Their ids begin with first_id,
 * above 0, which is to be another for each connection: QEMU gives the answers that a client did not
 * wait for to the next one, and by their ids they are told from ours, and dropped. */
struct qmp *qmp_new(struct loop *loop, int fd, uint64_t first_id,
                    const struct qmp_handler *handler);

bool qmp_has_ended(const struct qmp *q);

/* Ends the connection; replies that are due fail with ERR_CANCELLED, and closed is not called.
 * Accepts NULL. */
void qmp_free(struct qmp *q);

/* Sends a command; arguments (may be NULL) are stolen in any case. fn may be NULL. Fails, without
 * calling fn, when the connection has ended or too many commands wait. */
int qmp_execute(struct qmp *q, const char *command, json_t *arguments, qmp_reply_fn fn, void *arg,
                struct err *err);

/* Sends a copy of a descriptor, which the next `getfd` gives a name (qemu: docs/interop/qmp-spec).
 */
int qmp_send_fd(struct qmp *q, int fd, struct err *err);

/* Handles everything that the peer has sent, up to the end of the stream: for a peer that is known
 * to be dead, whose last events are still in the socket. */
void qmp_drain(struct qmp *q);
