/*
 * Sessions: commands in guests. The registry owns a record of each (state, exit, times), kept until
 * its VM is deleted or the oldest ended ones make room, and the attached clients' connections.
 * Locks: the registry's is a leaf and guards the records; streams and clients belong to the guest
 * loop's thread. No guest call is made under a lock.
 */
#pragma once

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/thread.h"
#include "codec/json.h"

#include <stdint.h>

struct guest_link;
struct session_registry;

#define SESSIONS_PER_VM_MAX 1024

enum session_state {
    SESSION_STARTING,
    SESSION_RUNNING,
    SESSION_EXITED,
    SESSION_FAILED, /* the command could not be started */
    SESSION_LOST,   /* the guest ended, or the link to it broke, before the command did */
};

enum session_event {
    SESSION_ENDED,     /* any of the last three states */
    SESSION_DELIVERED, /* a client has been sent everything, its end included */
};

/* On the guest loop's thread. */
typedef void (*session_event_fn)(void *arg, enum session_event event, const char *vm_id,
                                 const char *session_id);

struct session_registry_params {
    struct loop *loop; /* the guest loop, on which links and clients live */
    session_event_fn fn;
    void *arg;
    const struct clock *clock; /* NULL = clock_system */
    random_fn random;          /* NULL = random_bytes: ids */
};
struct session_registry *session_registry_new(const struct session_registry_params *params);
void session_registry_free(struct session_registry *r); /* after all links are closed */

struct session_start_params {
    struct guest_link *link;
    const char *vm_id;
    const json_t *spec; /* as api_session_spec describes it, validated and with its defaults; or,
                         * with a member "files" {"direction", "flags", "paths"} (see
                         * FRAME_TAG_FILES), a file transfer, a report or a forwarded connection,
                         * which ends with its client and leaves no record */
    bool drain; /* while no client is attached, output is taken and dropped: the command of a
                 * detached run must not wait for a reader that never comes */
    bool main;  /* of its VM */
    bool hold;  /* a connection of the client's holds it: the next daemon waits for the client to
                 * take the hold over, and lets the session go otherwise */
    struct cancel *cancel;
    int64_t deadline_ms;
};

/* Waits until the agent has started the command or said why not (that is a session in state
 * failed, not an error). ret_id names it. */
int session_start(struct session_registry *r, const struct session_start_params *params,
                  char ret_id[ID_SIZE], struct err *err) EXCLUDES(rank_leaf);

/* The Session object of docs/PROTOCOL.md. Ids may be prefixes. */
int session_show(struct session_registry *r, const char *vm_id, const char *ref, json_t **ret,
                 struct err *err) EXCLUDES(rank_leaf);
json_t *session_list(struct session_registry *r, const char *vm_id) EXCLUDES(rank_leaf);

int session_wait(struct session_registry *r, const char *vm_id, const char *ref,
                 struct cancel *cancel, int64_t deadline_ms, struct err *err) EXCLUDES(rank_leaf);

/* Sends a signal to the session's process group; does nothing when it has ended. */
void session_signal(struct session_registry *r, const char *vm_id, const char *session_id,
                    unsigned signal) EXCLUDES(rank_leaf);

/* Who held it is gone. If its stdin came from there it is hung up (SIGHUP); from now on what it
 * writes while no client is attached is dropped, so that it does not wait for a reader. */
void session_let_go(struct session_registry *r, const char *vm_id, const char *session_id)
    EXCLUDES(rank_leaf);

/* Makes fd (taken, with bytes that were read from it already) a client of the session. One client
 * at a time: the next one takes over, and the former one is told so. */
int session_attach(struct session_registry *r, const char *vm_id, const char *ref, int fd,
                   const void *early, size_t early_len, struct err *err) EXCLUDES(rank_leaf);

/* Sessions of an earlier daemon, known again from the agent's list. The one that was begun as the
 * VM's main session, by the guest's word: false when there is none. */
bool session_find_main(struct session_registry *r, const char *vm_id, char ret_id[ID_SIZE])
    EXCLUDES(rank_leaf);
/* It has ended, or is not known (any more). */
bool session_is_over(struct session_registry *r, const char *vm_id, const char *id)
    EXCLUDES(rank_leaf);
/* A client of an earlier daemon holds the session again. */
int session_take_hold(struct session_registry *r, const char *vm_id, const char *ref,
                      char ret_id[ID_SIZE], struct err *err) EXCLUDES(rank_leaf);
/* Lets those go that were held and have not been taken over; their number. */
unsigned session_let_go_orphans(struct session_registry *r, const char *vm_id) EXCLUDES(rank_leaf);
/* Ends a file transfer whose client did not come. */
void session_abandon(struct session_registry *r, const char *vm_id, const char *session_id)
    EXCLUDES(rank_leaf);

/* The error of a file transfer or a report that failed because the agent knows none. */
#define SESSION_NO_FILES "the guest's agent is older than this banger and cannot do that"

/* How many sessions of the VM have not ended, without reports. */
unsigned session_count_running(struct session_registry *r, const char *vm_id) EXCLUDES(rank_leaf);

/* Drops the records of a VM that is deleted (its link is closed). */
void session_forget_vm(struct session_registry *r, const char *vm_id) EXCLUDES(rank_leaf);
