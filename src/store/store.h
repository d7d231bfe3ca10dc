/*
 * The store: one SQLite database in the state directory, and the only place that speaks SQL.
 * Owner of its connection; lock: leaf (held over a commit, a few microseconds: WAL with
 * synchronous=NORMAL survives our death, and FULL is set for what a power cut must not undo).
 * Threads: any. Failure: ERR_IO, ERR_NO_SPACE; lookups ERR_NOT_FOUND; unique names
 * ERR_ALREADY_EXISTS. Text that comes back is NUL-terminated in fixed fields or owned by the row.
 */
#pragma once

#include "base/err.h"
#include "base/id.h"
#include "base/thread.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STORE_NAME_MAX 128
#define STORE_DIGEST_SIZE 72 /* "sha256:" and 64 hex digits, and the NUL */
#define STORE_REASON_SIZE 256
#define STORE_WHY_SIZE 160
#define STORE_HEX_SIZE 65 /* 64 hex digits and the NUL */
#define STORE_PHASES_MAX 16
#define STORE_RESTART_SIZE 24
/* So many starts of a VM are kept. */
#define STORE_STARTS_MAX 100

struct store;

/* Opens dir_fd/banger.db, making or migrating it; before it migrates one it copies it to
 * banger.db.v<its version>. dir_fd is borrowed for its life. A database from a newer banger is
 * refused (ERR_UNSUPPORTED), a damaged one is ERR_IO with what SQLite said. */
int store_open(int dir_fd, struct store **ret_store, struct err *err);
void store_close(struct store *s); /* accepts NULL */

/* Opens one that no daemon has open, to look at it: no file is made, and nothing is migrated.
 * ERR_NOT_FOUND when there is none, ERR_CONFLICT when the next daemon will migrate it. */
int store_open_read_only(const char *dir, struct store **ret_store, struct err *err);

/* Looks for what cannot be: calls fn for each problem, in words. */
typedef void (*store_problem_fn)(void *arg, const char *text);
int store_verify(struct store *s, store_problem_fn fn, void *arg, struct err *err)
    EXCLUDES(rank_leaf);

/* ---- VMs ---- */

enum vm_state {
    VM_CREATED,
    VM_STARTING,
    VM_RESTORING,
    VM_RUNNING,
    VM_PAUSED,
    VM_SUSPENDED,
    VM_STOPPING,
    VM_STOPPED,
    VM_POOLED,
    VM_ERROR,
    VM_STATE_COUNT,
};
const char *vm_state_name(enum vm_state state);

struct vm_phase {
    char name[24];
    int64_t ms;
};

/* ---- the ledger: what a VM has on the host ----
 *
 * An object is entered, in one commit with the VM's row, before it is made, and struck out after it
 * is gone. So what is in the ledger may be there, and what is not in it is not (but for what a
 * power cut brought back, which vm/vm_reconcile.c looks for). */

enum object_kind {
    OBJECT_STATE_DIR, /* in the state directory: data disk and console; name: the VM's id */
    OBJECT_RUN_DIR,   /* in the runtime directory: sockets, log; name: the VM's id */
    OBJECT_TAP,       /* its network card's end on the host; name: the TAP's number */
    OBJECT_PROCESS,   /* the VMM; name: PID:START-TICKS */
    OBJECT_KIND_COUNT,
};
const char *object_kind_name(enum object_kind kind);

#define OBJECT_NAME_SIZE 64

struct vm_object {
    enum object_kind kind;
    char name[OBJECT_NAME_SIZE]; /* what the host knows it by; "" = it is not known yet */
    uint64_t incarnation;        /* which run of the VM it is of; 0 = it stays between them */
    char boot_id[BOOT_ID_SIZE];  /* of the host whose kernel holds it; "" = it outlives the host */
};

/* What a row is there for. Users see their VMs only, and events tell only of those. */
enum vm_role {
    VM_ROLE_USER,     /* somebody's VM */
    VM_ROLE_TEMPLATE, /* a machine that is being made into a template, and goes then */
    VM_ROLE_POOL,     /* a fork that waits for somebody whose VM it becomes */
    VM_ROLE_COUNT,
};

struct vm_row {
    char id[ID_SIZE];
    enum vm_role role;
    char name[64];
    enum vm_state state;
    char reason[STORE_REASON_SIZE]; /* "user", "vmm_died", "guest_panic: …" */
    int64_t state_since_ms;         /* CLOCK_REALTIME, as all times here; 0 = never */
    uint64_t incarnation;           /* +1 at every boot */
    char image_name[STORE_NAME_MAX + 1];
    char image_digest[STORE_DIGEST_SIZE];
    char kernel_name[STORE_NAME_MAX + 1];
    char kernel_digest[STORE_DIGEST_SIZE];
    char vmm[16], vmm_version[32], accel[8], accel_why[160];
    unsigned vcpus;
    uint64_t memory_mib, disk_bytes;
    /* What the last run was started with; 0 = not known. */
    unsigned run_vcpus;
    uint64_t run_memory_mib, run_disk_bytes;
    bool own_init;     /* PID 1 is the image's, not the agent */
    char net_mode[8];  /* "nat" or "none" */
    unsigned net_slot; /* its place in the address plan (net/net.h); 0 = it has none */
    bool auto_remove;
    bool held; /* created on a connection that holds it: an auto_remove VM goes with its client */
    int64_t created_ms, started_ms;
    /* What becomes of it by itself: vm/vm_policy.c. */
    char restart[STORE_RESTART_SIZE]; /* "no", "on-failure", "on-failure:5", "always" */
    unsigned restart_count;           /* times in a row without a good while between them */
    bool autostart;
    int64_t auto_stop_after_ms, expires_after_ms; /* 0 = never */
    int64_t expires_ms;
    char host_boot[BOOT_ID_SIZE];   /* the boot of the host that its autostart has been done in */
    char template_id[ID_SIZE];      /* what its last start was forked from; "" = it booted */
    char start_why[STORE_WHY_SIZE]; /* why it was or was not; "" = nobody asks */
    int exit_code;                  /* of the main session or the VMM; -1 = none */
    int exit_signal;
    struct vm_phase timeline[STORE_PHASES_MAX];
    unsigned phase_count;
    char *labels;              /* JSON object, owned; never NULL in a row that was read */
    char *description;         /* owned; the same */
    struct vm_object *objects; /* owned, in the order in which they are made */
    size_t object_count;
    bool objects_changed; /* since they were written; the next update writes them */
};

#define VM_INIT_IMAGE "image"
#define VM_RESTART_NO "no"
#define VM_NET_NONE "none"
#define VM_NET_NAT "nat"
const char *vm_init_name(const struct vm_row *row); /* "agent" or "image" */

void vm_row_copy(struct vm_row *to, const struct vm_row *from); /* `to` is uninitialised */
void vm_row_done(struct vm_row *row);
#define _cleanup_vm_row_ _cleanup_(vm_row_done)

/* Enters an object, or replaces the one of this kind and incarnation. */
void vm_row_put_object(struct vm_row *row, const struct vm_object *object);
/* Strikes out those of one kind. */
void vm_row_drop_object(struct vm_row *row, enum object_kind kind);
/* The first of that kind, or NULL. */
const struct vm_object *vm_row_object(const struct vm_row *row, enum object_kind kind);

/* Each is one commit: the row and its objects. Insert and delete are durable. The name must be free
 * for an insert. */
int store_vm_insert(struct store *s, const struct vm_row *row, struct err *err) EXCLUDES(rank_leaf);
/* These two also find room on a full disk: store_reserve.c. */
int store_vm_update(struct store *s, const struct vm_row *row, struct err *err) EXCLUDES(rank_leaf);
int store_vm_delete(struct store *s, const char *id, struct err *err) EXCLUDES(rank_leaf);
/* All rows, oldest first; the caller frees the array and each row. */
int store_vm_list(struct store *s, struct vm_row **ret_rows, size_t *ret_count, struct err *err)
    EXCLUDES(rank_leaf);

/* One start of a VM that went well. */
struct vm_start {
    uint64_t incarnation;
    int64_t started_ms;
    char accel[8];
    struct vm_phase timeline[STORE_PHASES_MAX];
    unsigned phase_count;
};
/* Those that are kept, oldest first; the caller frees the array. */
int store_vm_starts(struct store *s, const char *id, struct vm_start **ret_starts,
                    size_t *ret_count, struct err *err) EXCLUDES(rank_leaf);

/* ---- the network: which subnets VMs' addresses are of ---- */

struct network_row {
    uint32_t ipv4; /* host byte order; 0 = none was chosen yet */
    unsigned ipv4_bits;
    uint8_t ipv6[16];
};
int store_network_get(struct store *s, struct network_row *ret_row, struct err *err)
    EXCLUDES(rank_leaf);
/* Durable. */
int store_network_put(struct store *s, const struct network_row *row, struct err *err)
    EXCLUDES(rank_leaf);

/* ---- events: what became of VMs, images, kernels and templates, numbered ---- */

/* So many are kept; older ones go. */
#define STORE_EVENTS_MAX 10000

struct event_row {
    uint64_t number; /* from 1, without gaps */
    int64_t time_ms;
    char kind[32];                  /* "vm.running", "image.named" */
    char object[STORE_DIGEST_SIZE]; /* id or digest */
    char name[STORE_NAME_MAX + 1];
    char reason[STORE_REASON_SIZE];
};

/* Calls fn with the number of the last event after each commit that wrote one, on the thread that
 * made it. Before there are others. */
typedef void (*store_event_fn)(void *arg, uint64_t number);
void store_on_event(struct store *s, store_event_fn fn, void *arg);

/* Numbers of the oldest and the last that are kept; both 0 when there are none. */
int store_event_range(struct store *s, uint64_t *ret_first, uint64_t *ret_last, struct err *err)
    EXCLUDES(rank_leaf);
/* Those behind `since`, in order, at most max. */
int store_event_list(struct store *s, uint64_t since, struct event_row *rows, size_t max,
                     size_t *ret_count, struct err *err) EXCLUDES(rank_leaf);

/* ---- templates: machines that were saved; their files are snapshot/'s ---- */

struct template_row {
    char id[ID_SIZE]; /* follows from its ingredients */
    int64_t created_ms, used_ms;
    uint64_t uses;
    char image_name[STORE_NAME_MAX + 1], image_digest[STORE_DIGEST_SIZE];
    char kernel_digest[STORE_DIGEST_SIZE];
    char *ingredients;   /* JSON object, owned: all that a VM must have in common with it */
    uint32_t tsc_khz;    /* of the host that it was made on */
    uint64_t size_bytes; /* of its files on the disk */
    int pool_size;       /* -1: as the configuration says */
    /* SHA-256 in hex, each of a file */
    char memory_digest[STORE_HEX_SIZE], devices_digest[STORE_HEX_SIZE], disk_digest[STORE_HEX_SIZE];
};
void template_row_copy(struct template_row *to, const struct template_row *from);
void template_row_done(struct template_row *row);

/* Durable; in the place of the one with its id. */
int store_template_put(struct store *s, const struct template_row *row, struct err *err)
    EXCLUDES(rank_leaf);
/* When it was last used, and how often. */
int store_template_used(struct store *s, const char *id, int64_t used_ms, uint64_t uses,
                        struct err *err) EXCLUDES(rank_leaf);
int store_template_pool(struct store *s, const char *id, int pool_size, struct err *err)
    EXCLUDES(rank_leaf);
int store_template_delete(struct store *s, const char *id, struct err *err) EXCLUDES(rank_leaf);
/* All, oldest first; the caller frees the array and each row. */
int store_template_list(struct store *s, struct template_row **ret_rows, size_t *ret_count,
                        struct err *err) EXCLUDES(rank_leaf);

/* ---- images and kernels: content by digest, names point at digests ---- */

enum store_kind { STORE_IMAGE, STORE_KERNEL };

struct artifact_row {
    char digest[STORE_DIGEST_SIZE];
    int64_t created_ms;
    uint64_t size_bytes;
    char version[STORE_NAME_MAX + 1]; /* kernel release; "" for images */
    char *config;                     /* JSON object, owned */
    char *names;                      /* JSON array of strings, owned */
};

void artifact_row_done(struct artifact_row *row);
#define _cleanup_artifact_row_ _cleanup_(artifact_row_done)

/* Adds the content unless it is known, and points name at it; one durable commit. */
int store_artifact_publish(struct store *s, enum store_kind kind, const struct artifact_row *row,
                           const char *name, struct err *err) EXCLUDES(rank_leaf);
/* By name, digest, or digest prefix of at least 6 hex digits that is unique. */
int store_artifact_find(struct store *s, enum store_kind kind, const char *ref,
                        struct artifact_row *ret_row, struct err *err) EXCLUDES(rank_leaf);
int store_artifact_list(struct store *s, enum store_kind kind, struct artifact_row **ret_rows,
                        size_t *ret_count, struct err *err) EXCLUDES(rank_leaf);
