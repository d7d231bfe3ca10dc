/* Shared by the files of vm/ only. */
#pragma once

#include "base/list.h"
#include "base/thread.h"
#include "codec/api_write.h"
#include "guest/link.h"
#include "vm/boot_slots.h"
#include "vm/console.h"
#include "vm/vm.h"
#include "vm/vm_locks.h"
#include "vmm/process_find.h"

/* How the reason of a VM begins that the next daemon finds half made, or half deleted. */
#define VM_REASON_CREATING "creating"
#define VM_REASON_DELETING "deleting"
/* Of a paused one: vm_space.c, vm_pause.c. */
#define VM_REASON_DISK_FULL "disk_full"
#define VM_REASON_USER "user"
#define VM_REASON_GUEST_POWEROFF "guest_poweroff"

/* One incarnation that runs: counted references, so that exec and the like may use its link while
 * somebody stops it. */
struct vm_run {
    /* immutable once published in the table */
    struct vms *vms;
    char vm_id[ID_SIZE];
    uint64_t incarnation;
    const struct vmm_ops *ops;
    struct vmm *vmm;
    struct guest_link *link;
    struct console_watch *console, *vmm_log;
    int run_fd;                /* its run directory */
    bool has_grace;            /* it was adopted */
    struct loop_source *grace; /* of an adopted one: the guest loop's timer, and that thread's */

    /* table lock */
    int refs;
    bool going_down; /* the guest said that it ends on purpose */
    bool exited;
    bool killing;    /* somebody waits for its end, and cleans up: nobody else needs to */
    bool lost;       /* its process, its agent or the link has ended */
    char why[256];   /* why the link broke, "" if it did not */
    bool io_stopped; /* by its VMM: a write found the host's disk full */
    int64_t resumed_ms, resume_at_ms, backoff_ms; /* vm_space.c, CLOCK_MONOTONIC */
};

#define VM_BUCKETS 1024

/* One VM in the table; everything under the table lock. */
struct vm_entry {
    struct list node, by_id, by_name;
    struct vm_row row;
    struct vm_run *run;         /* a reference, or NULL */
    char main_session[ID_SIZE]; /* "" = none */
    bool orphaned; /* adopted, and the client that held it under an earlier daemon did not come back
                    * so far */
};

struct vms {
    /* immutable */
    struct vms_params params;
    char *run_dir, *default_image, *default_kernel;
    struct session_registry *sessions;
    struct vm_locks *locks;
    struct console_watcher *consoles;
    struct boot_slots *slots;
    struct boot_slots *probe;   /* one: who probes for KVM */
    char boot_id[BOOT_ID_SIZE]; /* of the host */

    struct lock create; /* rank create */

    /* control loop's thread */
    struct loop_source *space_timer; /* NULL until a guest waited for room */
    bool space_armed;

    /* table lock, a leaf */
    struct lock table;
    struct list entries;                                /* struct vm_entry, by created_ms and id */
    struct list by_id[VM_BUCKETS], by_name[VM_BUCKETS]; /* the same, by hash */
    struct list watchers;                               /* struct watcher (vm_table.c) */
    bool accel_known;
    enum vmm_accel accel;
    char accel_why[160];
    unsigned workers; /* threads that clean up after exits */
    bool closing;
    struct latch idle; /* set when closing and workers is 0 */
};

/* ---- vm_table.c ---- */

/* The entry of that id, or name, or NULL. */
struct vm_entry *vm_find_locked(struct vms *v, const char *id);
struct vm_entry *vm_find_name_locked(struct vms *v, const char *name);
/* Whether the row stands behind that place in the list. */
bool vm_is_behind(const struct vm_row *row, int64_t created_ms, const char *id);
/* Adds an entry with this row, which is copied. */
struct vm_entry *vm_add_locked(struct vms *v, const struct vm_row *row);
/* For a row whose name has changed. */
void vm_reindex_locked(struct vms *v, struct vm_entry *e);
/* Takes it out; the caller frees it with its row. */
void vm_take_locked(struct vm_entry *e);
void vm_changed_locked(struct vms *v); /* wakes those who wait for a change */
int vm_get_row(struct vms *v, const char *id, struct vm_row *ret_row, struct err *err);

/* Applies change(row, arg) to the row under the table lock, then writes it to the store. The store
 * lags by at most the failed write, which is the error. */
typedef void (*vm_change_fn)(struct vm_row *row, void *arg);
int vm_update(struct vms *v, const char *id, vm_change_fn change, void *arg, struct err *err);
/* The same without the store, which the next update brings up to date: for what the next daemon can
 * do without, or find out. */
void vm_note(struct vms *v, const char *id, vm_change_fn change, void *arg);
/* The common change: state and reason. */
int vm_set_state(struct vms *v, const char *id, enum vm_state state, const char *reason,
                 struct err *err);

struct vm_run *vm_run_get(struct vms *v, const char *id, struct err *err); /* ERR_NOT_RUNNING */
/* The same, but ERR_NOT_RUNNING also when the user has paused it: its guest cannot answer. */
struct vm_run *vm_run_get_awake(struct vms *v, const char *id, struct err *err);
/* As that, and waits until its agent can be talked to: that of an adopted VM takes a moment. */
struct vm_run *vm_run_get_up(struct vms *v, const char *id, struct cancel *cancel, struct err *err);
void vm_run_put(struct vm_run *run);
/* The same for loop threads, which must not wait: freeing the last reference is left to another. */
void vm_run_put_later(struct vm_run *run);
DEFINE_CLEANUP(struct vm_run *, vm_run_put);
#define _cleanup_vm_run_ _cleanup_(vm_run_put_p)

/* Runs fn(v, id) on a thread of its own; vms_free waits for it. Any thread, the loops' too. */
typedef void (*vm_worker_fn)(struct vms *v, const char *id);
void vm_run_worker(struct vms *v, const char *id, vm_worker_fn fn);

/* How long a verb without a deadline waits for whoever works on the VM. */
#define VM_TOKEN_WAIT_MS 60000

/* Takes the token of the VM that ref names; with `cut`, whoever has it is asked to give up. what:
 * "stop", for others who wait. */
int vm_acquire(struct vms *v, const char *ref, const char *what, bool cut, struct cancel *cancel,
               int64_t deadline_ms, struct vm_token **ret_token, char ret_id[ID_SIZE],
               struct err *err) ACQUIRES_IF_ZERO(rank_vm);

/* ---- vm_start.c: the caller holds the VM's token ---- */

/* Boots it; op may be NULL. On failure nothing of the attempt is left but the reason. */
int vm_boot(struct vms *v, const char *id, struct op *op, struct cancel *cancel, struct err *err)
    REQUIRES(rank_vm);
/* Takes over a VM that an earlier daemon started; its row stays as it is. */
int vm_adopt(struct vms *v, const char *id, struct err *err) REQUIRES(rank_vm);

/* The back end of that name, if its VMs may be started; "auto": the usual one. */
int vm_find_vmm(const struct vms *v, const char *name, const struct vmm_ops **ret_ops,
                struct err *err);

/* ---- vm_load.c ---- */

/* Brings a VM whose run nobody holds to what the host says: adopted, stopped, or removed. */
int vm_settle(struct vms *v, const struct vm_row *row, struct err *err) REQUIRES(rank_vm);

/* Whether it is a create or a delete that a daemon did not finish. */
bool vm_is_half(const struct vm_row *row);

/* ---- vm_reconcile.c ---- */

/* Once all VMs are settled, before serving: removes what no VM has, and tells the log. */
int vm_sweep(struct vms *v, struct err *err) EXCLUDES(rank_vm);

/* ---- vm_resume.c: sessions that outlived a daemon ---- */

/* Before the link of an adopted VM is opened: from now on its clients have a while to come back. */
void vm_begin_grace(struct vm_run *run);
void vm_end_grace(struct vm_run *run);
/* The agent has listed its sessions. On the guest loop's thread. */
void vm_on_listed(struct vm_run *run);

/* ---- vm_space.c: the host's disk is full ---- */

/* What a create may write; released when it is over. */
struct vm_promise {
    struct space_claim *disk, *cache; /* or NULL */
};
void vm_promise_done(struct vm_promise *p);
/* Before anything is made, or started. ERR_NO_SPACE. */
int vm_admit_create(struct vms *v, const struct vm_row *row, const struct vmm_ops *ops, bool start,
                    struct vm_promise *ret_promise, struct err *err);
int vm_admit_start(struct vms *v, const struct vm_row *row, const struct vmm_ops *ops,
                   struct err *err);

/* On the control loop's thread. */
void vm_on_io_stopped(struct vm_run *run);
/* How long a guest that is stopped waits at least, having waited last_ms before and run for ran_ms
 * since; -1 = it was not stopped before. */
int64_t vm_next_backoff_ms(int64_t last_ms, int64_t ran_ms);
void vm_on_resumed(struct vm_run *run);
bool vm_is_io_stopped(struct vm_run *run);
/* Lets a stopped guest go on, whether there is room or not; it may be stopped again at once. */
int vm_resume(struct vm_run *run, struct cancel *cancel, struct err *err);

/* The row of a VM that is up: running with that reason, or paused. */
int vm_set_up(struct vms *v, struct vm_run *run, const char *reason, struct err *err);
void vm_mark_paused_locked(const struct vm_run *run, struct vm_row *row);
/* Makes a row that says running or paused say which of them it is. */
int vm_record_paused(struct vms *v, const char *id, struct err *err);
/* One that an earlier daemon saw paused is taken for it until it goes on. */
void vm_adopt_paused(struct vm_run *run, const struct vm_row *row);
/* When no worker runs any more, and no event comes. */
void vm_space_done(struct vms *v);

/* ---- vm_pause.c ---- */

bool vm_is_paused_by_user(const struct vm_row *row);
/* A paused VM, whatever for, goes on; it may be stopped again by a full disk at once. */
int vm_go_on(struct vms *v, const char *id, struct cancel *cancel, struct err *err)
    REQUIRES(rank_vm);
/* Of an adopted one that is paused by the user. */
void vm_keep_paused(struct vms *v, const char *id);

/* ---- vm_stop.c ---- */

struct vm_ending {
    const char *reason;
    struct vmm_exit exit;
};

/* The process has ended, or is to be: lets go of everything of the incarnation, and sets stopped;
 * when something of it remains, error. */
int vm_clean_up(struct vms *v, const char *id, const struct vm_ending *end, struct err *err)
    REQUIRES(rank_vm);

/* Ends the process at once, waits for it, removes its run directory, sets stopped with reason. */
int vm_kill(struct vms *v, const char *id, const char *reason, struct err *err) REQUIRES(rank_vm);
/* Kills it, removes its files and its row. */
int vm_remove(struct vms *v, const char *id, struct err *err) REQUIRES(rank_vm);
/* The VMM process is gone, or its guest is: a worker looks after that, unless it is killed. */
void vm_run_ended(struct vm_run *run);
/* Worker: delete an auto_remove VM whose main session is over. */
void vm_auto_remove(struct vms *v, const char *id);

/* ---- vm_undo.c: the caller holds the VM's token ---- */

enum vm_undo_scope {
    VM_UNDO_RUN, /* what it has only while it runs */
    VM_UNDO_ALL,
};

/* Takes the objects of the ledger away, newest first. All of them, whatever fails; the error tells
 * of each failure. Cannot be cancelled. The ledger is left as it is. */
int vm_undo(struct vms *v, const char *id, enum vm_undo_scope scope, struct err *err)
    REQUIRES(rank_vm);

/* The ledger's entries for a run of the row's incarnation, and without them. */
void vm_row_enter_run(struct vm_row *row);
void vm_row_drop_run(struct vm_row *row);

/* The name of a process in the ledger. From an object: false when there is none, or its process is
 * not known. */
void vm_process_name(const struct vmm_process *process, char ret_name[OBJECT_NAME_SIZE]);
bool vm_process_from_object(const struct vm_object *o, struct vmm_process *ret_process);

/* Kills a VM's process and waits for its end. The error names the process. */
int vm_end_vmm(const struct vmm_ops *ops, struct vmm *vmm, struct vmm_exit *ret_exit,
               struct err *err);

/* Kills a process whose run directory has that name, and waits for its end; one that is gone, or is
 * somebody else by now, is none. */
int vm_end_process(struct vms *v, const struct vmm_ops *ops, const char *name,
                   const struct vmm_process *process, struct err *err);

/* ---- vm_events.c ---- */
void vm_on_vmm_event(void *run, enum vmm_event event);
void vm_on_link_event(void *run, enum guest_link_event event, const char *text);
void vm_on_session_event(void *vms, enum session_event event, const char *vm_id,
                         const char *session_id);

/* ---- vm_json.c ---- */
/* The VM object of a row: written, and as a tree of what was written. */
void vm_row_write(const struct vm_row *row, unsigned sessions, struct api_writer *w);
int vm_row_json(const struct vm_row *row, unsigned sessions, json_t **ret, struct err *err);

/* ---- vm_create.c ---- */
/* A DNS label, or NULL; else ERR_INVALID. */
int vm_check_name(const char *name, struct err *err);
/* Only under the create lock it stays as it is. */
bool vm_name_taken(struct vms *v, const char *name);

/* ---- vm_names.c ---- */
void vm_generate_name(char ret_name[64]);
