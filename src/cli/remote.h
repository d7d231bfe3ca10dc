/*
 * The guest's end of a copy or of a forwarded connection: a connection to the daemon that file.put,
 * file.get or session.connect has turned into frames. It moves bytes between the socket and
 * buffers; who waits for what is transfer.c's and relay.c's business.
 * Threads: one. What the daemon and the guest say is checked and bounded.
 */
#pragma once

#include "cli/cli.h"
#include "codec/frame.h"

#define REMOTE_WINDOW ((size_t)512 * 1024) /* most bytes that are under way to us */

/* Failures as archive/ tells them: path, why and hint, each with a NUL. */
struct messages {
    struct buf text;
    bool any;
};

void messages_init(struct messages *m);
/* Adds bytes; -1 when that is nobody's idea of an error. */
int messages_take(struct messages *m, const void *data, size_t len);
/* Prints those that are complete: "banger: VM:PATH: why"; vm may be NULL. */
void messages_print(struct messages *m, const struct cli *cli, const char *vm);

struct remote {
    const char *vm; /* as the user calls it; borrowed */
    bool puts;      /* file.put: the guest has nothing to send */
    int fd;
    struct client *client;
    struct buf in, out;
    struct messages messages;

    /* to the guest */
    bool stdin_known, stdin_ended;
    uint64_t sent, limit;

    /* from the guest */
    uint64_t received, acked, granted;
    uint64_t err_received, err_acked;
    bool ended;     /* all of stdout has come */
    bool err_ended; /* and of stderr */

    bool exited;
    int status, signal;
};

/* Calls the method; params (stolen) are its own but vm. signals_fd may be -1. -1 with *err set;
 * then, or when a signal came meanwhile (*ret_signal), remote_close is all that may be called. */
int remote_open(struct remote *r, struct cli *cli, const char *vm, const char *method,
                json_t *params, int signals_fd, int *ret_signal, struct err *err);
void remote_close(struct remote *r); /* a zeroed one with fd -1 is fine */

/* What to poll for. */
short remote_events(const struct remote *r);

/* Serves the socket: frames in, and out what is queued. Data goes to `data`. */
int remote_serve(struct remote *r, short events, struct buf *data, struct err *err);

/* How much of `data` the guest may be given now. */
size_t remote_room(const struct remote *r);
/* Takes as much of data as there is room for; with `end`, tells the end when all is gone. */
void remote_send(struct remote *r, struct buf *data, bool end);

/* Lets the guest send as much more as data has room for, once that is worth a frame. It is worth
 * less when the guest has been quiet, for it may be waiting. */
void remote_grant(struct remote *r, const struct buf *data, bool quiet);

/* Whether remote_grant has something to tell when the guest is quiet (FRAME_ACK_QUIET_MS). */
bool remote_owes(const struct remote *r);

/* Asks the transfer to undo what it has begun. */
void remote_stop(struct remote *r);
