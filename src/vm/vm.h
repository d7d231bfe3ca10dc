/*
 * VMs: the table of what there is, and the verbs. One `struct vms` owns the table (a leaf lock, by
 * which records are copied out), the operation tokens (vm_locks.h, outermost) and the create lock
 * (name uniqueness, at most one store commit under it). Slow work holds the VM's token and no lock.
 * exec, attach, list and show take no token: they work on a reference to the incarnation, whose
 * link fails cleanly when it ends.
 * Threads: any but the loops', except where said.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/loop.h"
#include "codec/api_write.h"
#include "codec/json.h"
#include "disk/space.h"
#include "doctor/doctor.h"
#include "guest/link.h"
#include "guest/session.h"
#include "image/image.h"
#include "ops/op.h"
#include "store/store.h"
#include "vmm/vmm.h"

struct vm_capability;
struct vms;

enum vm_accel_choice { VM_ACCEL_AUTO, VM_ACCEL_KVM, VM_ACCEL_TCG };

/* Collaborators are borrowed for its life; texts and numbers are copied. */
/* What a VM's owner does by others' functions, so that somebody can stand in for them: in tests, or
 * where a VM is reached by another way. NULL: the function named. */
struct vm_seams {
    const struct clock *clock; /* clock_system: what is noted, and what policies go by */
    random_fn random;          /* random_bytes: ids, names, guests' entropy */
    spawn_fn spawn;            /* spawn_process: who formats disks */
    /* vm_dial: connects to the agent's port of a run directory. The socket or -errno. */
    int (*dial)(int run_fd);
    /* guest_link_wait_hello: waits until the agent answers. */
    int (*wait_agent)(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                      struct err *err);
    /* session_start: waits until a command runs. */
    int (*start_session)(struct session_registry *sessions,
                         const struct session_start_params *params, char ret_id[ID_SIZE],
                         struct err *err);
};

/* VMs' names are below it. */
#define VM_DOMAIN "vm"

struct vms_params {
    struct store *store;
    struct image_registry *images;
    struct space *space;
    const struct vmm_ops *vmm; /* of VMs that name none */
    struct host *host;         /* who starts VMMs */
    struct nets *net;          /* networks of VMs; NULL = there are none */
    struct dns *dns;           /* their names; NULL = they have none */
    const char *fakevmm_path;  /* of the fake VMM; NULL = VMs that name it are refused */
    struct loop *control_loop; /* VMM events, timers */
    struct loop *guest_loop;   /* agent links and clients */
    int state_fd;              /* vms/<id>/ : data disk, console */
    int cache_fd;
    int run_fd;          /* vms/<id>/ : sockets of the running incarnation */
    const char *run_dir; /* its absolute path */
    enum vm_accel_choice accel;
    const char *default_image, *default_kernel; /* default_kernel may be NULL */
    unsigned boot_slots;
    uint32_t tsc_khz; /* of the host; 0 = unknown */
    int64_t boot_timeout_ms, boot_silence_ms;
    const struct doctor *doctor; /* its checks gate the start of machines; NULL = none */
    const struct vm_capability *const *capabilities; /* ends with NULL; NULL = all there are */
    struct vm_seams seams;
};

/* ---- templates (snapshot/): machines that were saved, from which VMs are forked ---- */

/* What a VM is forked from; all owned, -1 = nothing. */
struct vm_fork {
    char id[ID_SIZE];     /* of the template; "" = there is none, and the VM boots */
    char member[ID_SIZE]; /* of its pool, the caller's from now on; "" = none is ready */
    int memory_fd;        /* a sealed memfd */
    int devices_fd;       /* this fork's own, at its beginning */
    int disk_fd;          /* O_RDONLY: the data disk as it was when the machine was saved */
    off_t disk_bytes;     /* its size and time when it was compared with its digest: as long as they
                           * are so it has not changed */
    struct timespec disk_mtime;
};
#define VM_FORK_NONE ((struct vm_fork){.memory_fd = -1, .devices_fd = -1, .disk_fd = -1})
void vm_fork_done(struct vm_fork *f);

/* Who has templates. Its functions are called on any thread but the loops', with no lock and maybe
 * a VM's token. */
struct vm_templates {
    /* Looks for one for a VM like row. Cannot fail: without one *ret is VM_FORK_NONE and why says
     * the reason. */
    void (*take)(void *arg, const struct vm_row *row, struct cancel *cancel, struct vm_fork *ret,
                 char why[STORE_WHY_SIZE]);
    /* A VM like row has booted that could have been a fork. */
    void (*wanted)(void *arg, const struct vm_row *row);
    /* A machine could not be restored from it. */
    void (*broken)(void *arg, const char *id, const struct err *why);
    void *arg;
};

struct vms *vms_new(const struct vms_params *params);

/* Reads the store, adopts the VMs that still run and marks the others stopped; what an unfinished
 * create left is removed. Once, before serving. */
int vms_load(struct vms *v, struct err *err);

/* Compares what is known with what the host has, and mends it: what runs without us is adopted,
 * what should be gone is removed. *ret_list: Discrepancy objects, with an error for what could not
 * be mended; with dry_run nothing is done. What somebody works on is left out. */
int vms_reconcile(struct vms *v, bool dry_run, json_t **ret_list, struct err *err)
    EXCLUDES(rank_vm);

/* Once, before vms_load. Copied. */
void vms_set_templates(struct vms *v, const struct vm_templates *templates);

/* What a template for VMs like row has in common with them, but for the host's TSC rate: a JSON
 * object. May find out whether KVM works. */
int vms_ingredients(struct vms *v, const struct vm_row *row, struct cancel *cancel, json_t **ret,
                    struct err *err) EXCLUDES(rank_leaf);

/* The row of a VM as vm.create.begin would make it of these params, without a name. */
int vms_resolve_create(struct vms *v, const json_t *params, struct cancel *cancel,
                       struct vm_row *ret_row, struct err *err) EXCLUDES(rank_leaf);

/* A machine that was saved: descriptors of files that are not sealed or synced yet. */
struct vm_saved {
    int memory_fd;  /* a memfd */
    int devices_fd; /* given: an empty file */
    int disk_fd;    /* given: an empty file */
};
/* Boots a machine like that of row, which nobody else sees, and saves it. Nothing of it stays
 * beside *saved. */
int vms_save_new(struct vms *v, const struct vm_row *like, struct op *op, struct vm_saved *saved,
                 struct err *err) EXCLUDES(rank_vm);

/* Whether a member of a pool can become a VM like that row. */
bool vms_pool_fits(const struct vms *v, const struct vm_row *row);
/* Makes a member of a template's pool, for VMs like row: restored, rehearsed, stopped. */
int vms_pool_add(struct vms *v, const struct vm_row *like, const struct vm_fork *fork,
                 struct cancel *cancel, char ret_id[ID_SIZE], struct err *err) EXCLUDES(rank_vm);
/* Gives it up, unless it is somebody's VM by now. */
int vms_pool_remove(struct vms *v, const char *id, struct err *err) EXCLUDES(rank_vm);

/* From now on a held connection's end means nothing: the clients may go on with the next daemon. */
void vms_stop_serving(struct vms *v) EXCLUDES(rank_leaf);
/* Lets go of all running VMs (they go on) and frees. No verb may be under way. */
void vms_free(struct vms *v);

/* ---- looking ---- */

/* The VM objects of docs/PROTOCOL.md. */
int vms_show(struct vms *v, const char *ref, json_t **ret, struct err *err) EXCLUDES(rank_leaf);

struct vms_query {
    bool all;     /* also those that are stopped */
    size_t limit; /* 0: all of them */
    const char
        *after_id;    /* only those behind this VM, which need not exist; NULL: from the first */
    int64_t after_ms; /* its created_at */
};
/* Writes them as vm.list promises, ordered by created_at and id. Each is as it was at one moment,
 * and each that was there all the time is there once. ERR_LIMIT: they do not fit, and there was no
 * limit. */
int vms_list(struct vms *v, const struct vms_query *query, struct api_writer *w, struct err *err)
    EXCLUDES(rank_leaf);

/* {"running": 2, "stopped": 1}: states with their number of VMs. */
json_t *vms_count_by_state(struct vms *v) EXCLUDES(rank_leaf);
/* The id of the VM that ref names: a name, an id, or a unique prefix of one. */
int vms_resolve(struct vms *v, const char *ref, char ret_id[ID_SIZE], struct err *err)
    EXCLUDES(rank_leaf);

/* The same, and waits until the sessions of a VM that was adopted are known, or it is clear that
 * they will not be. */
int vms_resolve_listed(struct vms *v, const char *ref, struct cancel *cancel, char ret_id[ID_SIZE],
                       struct err *err) EXCLUDES(rank_leaf);

enum vm_wait_for { VM_WAIT_RUNNING, VM_WAIT_STOPPED, VM_WAIT_DELETED };
/* A VM that does not exist (any more) counts as deleted. */
int vms_wait(struct vms *v, const char *ref, enum vm_wait_for what, struct cancel *cancel,
             int64_t deadline_ms, struct err *err) EXCLUDES(rank_leaf);

/* A piece of a log, as it is (vm_logs.c). */
struct vms_log {
    const char *ref, *source;
    size_t tail_bytes;
    int64_t after; /* a position that an earlier piece ended at; -1: its end, tail_bytes of it */
    bool wait;     /* until there is something behind that */
};
struct log_page;
int vms_log_read(struct vms *v, const struct vms_log *what, struct cancel *cancel,
                 struct log_page *ret_page, struct err *err) EXCLUDES(rank_leaf);

/* What a VM uses: a VMStats object (vm_stats.c). Takes interval_ms, and as long as the guest may
 * take to answer; what cannot be told is null, with the reason. ERR_NOT_RUNNING. */
struct vms_stats {
    const char *ref;
    int64_t interval_ms, timeout_ms;
};
int vms_stats(struct vms *v, const struct vms_stats *what, struct cancel *cancel, json_t **ret,
              struct err *err) EXCLUDES(rank_leaf);
/* A guest's processes: a Processes object. */
int vms_top(struct vms *v, const char *ref, struct cancel *cancel, int64_t deadline_ms,
            json_t **ret, struct err *err) EXCLUDES(rank_leaf);

/* On which ports a guest listens: a Listeners object. */
int vms_ports(struct vms *v, const char *ref, struct cancel *cancel, int64_t deadline_ms,
              json_t **ret, struct err *err) EXCLUDES(rank_leaf);

/* A VM's starts, oldest first: Start objects. */
int vms_timeline(struct vms *v, const char *ref, json_t **ret, struct err *err) EXCLUDES(rank_leaf);

/* ---- verbs ---- */

/* Begins the creation with validated params of vm.create.begin. *ret_hold, if wanted: what
 * vms_hold_closed takes when the connection that holds the VM ends. */
struct vm_hold;
int vms_create_begin(struct vms *v, struct op_registry *ops, const json_t *params,
                     char ret_op[ID_SIZE], struct vm_hold **ret_hold, struct err *err);
/* Cancels the create, deletes an auto_remove VM, or hangs up the session. Frees hold. */
void vms_hold_closed(void *hold);

int vms_start(struct vms *v, const char *ref, struct cancel *cancel, struct err *err);
int vms_stop(struct vms *v, const char *ref, bool force, struct cancel *cancel, int64_t deadline_ms,
             struct err *err);
/* Stops it, if it runs, and starts it, with nobody in between. Not a VM with auto_remove. */
int vms_restart(struct vms *v, const char *ref, bool force, struct cancel *cancel,
                int64_t deadline_ms, struct err *err);
/* Sends a signal to the main session. */
int vms_signal(struct vms *v, const char *ref, unsigned signal, struct err *err);
/* Stops the guest's CPUs, which it does not notice but by its clock, and lets them go on; also one
 * that waits for room on the disk. Either is content with what is so already. */
int vms_pause(struct vms *v, const char *ref, struct cancel *cancel, struct err *err);
int vms_resume(struct vms *v, const char *ref, struct cancel *cancel, struct err *err);
/* Does what vm.set says, with its validated params; *ret: a VMSet object. */
int vms_set(struct vms *v, const char *ref, const json_t *params, struct cancel *cancel,
            json_t **ret, struct err *err);
/* Somebody still wants it: it is not idle, and its time begins anew. */
int vms_touch(struct vms *v, const char *ref, struct cancel *cancel, struct err *err);
int vms_delete(struct vms *v, const char *ref, bool force, struct cancel *cancel, struct err *err);
/* Deletes VMs that have been stopped for so long and do not start by themselves; with dry_run only
 * tells which. *ret_list: Pruned objects, with an error for what could not be deleted. */
struct vms_prune {
    int64_t stopped_for_ms;
    bool dry_run;
};
int vms_prune(struct vms *v, const struct vms_prune *what, struct cancel *cancel, json_t **ret_list,
              struct err *err);
/* Sends a ping to the VM's agent and returns at once. On success the caller frees *ret_ping, after
 * fn was called (guest/link.h) or vms_ping_forget said that it will not be. Loop threads too. */
struct vm_ping;
int vms_ping(struct vms *v, const char *ref, guest_ping_fn fn, void *arg, struct vm_ping **ret_ping,
             struct err *err);
bool vms_ping_forget(struct vm_ping *ping);
void vms_ping_free(struct vm_ping *ping);

/* Starts a command in a running VM: spec as in session.start. With ret_hold as above. */
int vms_session_start(struct vms *v, const char *ref, const json_t *spec, struct cancel *cancel,
                      json_t **ret_session, struct vm_hold **ret_hold, struct err *err);

/* The hold of a session whose client lost it with an earlier daemon, or a further one. */
int vms_session_hold(struct vms *v, const char *ref, const char *session, struct cancel *cancel,
                     json_t **ret_session, struct vm_hold **ret_hold, struct err *err);

struct session_registry *vms_sessions(struct vms *v);
