/* Shared by the files of vm/ only. */
#pragma once

#include "base/list.h"
#include "base/thread.h"
#include "boot/cmdline.h"
#include "codec/api_write.h"
#include "dns/dns.h"
#include "guest/link.h"
#include "net/net.h"
#include "vm/boot_slots.h"
#include "vm/capability.h"
#include "vm/console.h"
#include "vm/vm.h"
#include "vm/vm_locks.h"
#include "vmm/accel.h"
#include "vmm/process_find.h"

#include <string.h>

/* How the reason of a VM begins that the next daemon finds half made, or half deleted. */
#define VM_REASON_CREATING "creating"
#define VM_REASON_DELETING "deleting"
/* Of a paused one: vm_space.c, vm_pause.c. */
#define VM_REASON_DISK_FULL "disk_full"
#define VM_REASON_USER "user"
#define VM_REASON_GUEST_POWEROFF "guest_poweroff"
#define VM_REASON_IDLE "idle"

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
    int run_fd;                /* its run directory */
    bool has_grace;            /* it was adopted */
    struct loop_source *grace; /* of an adopted one: the guest loop's timer, and that thread's */

    /* who has the VM's token */
    struct vm_caps caps;

    /* table lock */
    int refs;
    bool going_down; /* the guest said that it ends on purpose */
    bool was_reset;
    char asked[16]; /* why an earlier daemon was about to stop it; "" once its agent is there */
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
    struct vm_run *run;                 /* a reference, or NULL */
    struct log_file *console, *vmm_log; /* references */
    char main_session[ID_SIZE];         /* "" = none */
    int64_t used_ms;                    /* when it was last used, CLOCK_MONOTONIC: vm_policy.c */
    int64_t policy_at_ms;               /* not before; the same */
    int64_t expires_ms;         /* of the row, when that was looked at; and what it was on */
    int64_t expires_boot_ms;    /* CLOCK_BOOTTIME */
    struct cancel *policy_acts; /* of the worker that does what is due; NULL = none */
    bool orphaned; /* adopted, and the client that held it under an earlier daemon did not come back
                    * so far */
};

/* The host's processor as guests can see it. */
struct vm_cpu {
    char name[49];
    char features[17]; /* a digest of what cpuid says that it can */
};

struct vms {
    /* immutable */
    struct vm_cpu cpu;
    struct vms_params params;
    struct vm_seams seams;         /* none of them NULL */
    struct vm_templates templates; /* take is NULL: there are none */
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
    struct loop_source *policy_timer; /* NULL until it is set */

    /* table lock, a leaf */
    struct lock table;
    struct list entries;                                /* struct vm_entry, by created_ms and id */
    struct list by_id[VM_BUCKETS], by_name[VM_BUCKETS]; /* the same, by hash */
    struct list watchers;                               /* struct watcher (vm_table.c) */
    bool accel_known;
    enum vmm_accel accel;
    char accel_why[160];
    bool policy_posted; /* the control loop is going to look what is due */
    bool loading;       /* VMs are taken over: nothing is due yet */
    unsigned workers;   /* threads that clean up after exits */
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
/* For a row whose name, or time of creation, has changed. */
void vm_reindex_locked(struct vms *v, struct vm_entry *e);
/* Takes it out. */
void vm_take_locked(struct vm_entry *e);
/* Frees one that was taken out, and whose run is put. Accepts NULL. */
void vm_entry_free(struct vm_entry *e);
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
/* A run of that row's incarnation: one reference, no VMM and no link yet. */
struct vm_run *vm_run_new(struct vms *v, const struct vm_row *row, const struct vmm_ops *ops);
/* The VMM of that name, or NULL. */
const struct vmm_ops *vm_ops(const struct vms *v, const char *name);
/* Connects to the agent's socket in a run directory, which is -errno when it cannot. */
int vm_dial(int run_fd);
/* Opens the link on that socket, which is taken. */
void vm_run_link(struct vm_run *run, int fd, bool adopted);
/* Lets go of what its capabilities hold. */
void vm_run_clean_up(struct vm_run *run);
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

/* How a VM is started: all borrowed, and may be missing. */
struct vm_boot_params {
    struct op *op; /* whose stages are told */
    struct cancel *cancel;
    const struct vm_fork *fork; /* restored from it; booted where that fails */
    int memory_fd;              /* -1, or a memfd for the machine's memory, to be saved */
};
/* On failure nothing of the attempt is left but the reason. */
int vm_boot(struct vms *v, const char *id, const struct vm_boot_params *params, struct err *err)
    REQUIRES(rank_vm);
/* As most are. */
int vm_boot_plain(struct vms *v, const char *id, struct cancel *cancel, struct err *err)
    REQUIRES(rank_vm);

/* The back end of that name, if its VMs may be started; "auto": the usual one. */
int vm_find_vmm(const struct vms *v, const char *name, const struct vmm_ops **ret_ops,
                struct err *err);

/* Gives a guest that is up the identity of that row. */
int vm_configure(struct vm_run *run, const struct vm_row *row, struct cancel *cancel,
                 struct err *err) REQUIRES(rank_vm);

/* ---- vm_accel.c: KVM or emulation ---- */

/* The accelerator of machines, and for emulation why. False: it is to be found out. */
bool vm_accel_get(struct vms *v, enum vmm_accel *ret, char ret_why[ACCEL_WHY_SIZE]);
/* Finds it out, unless somebody else just has, with kernel and initramfs of spec. */
int vm_accel_find(struct vms *v, const struct vmm_ops *ops, const struct vmm_spec *spec,
                  const char *kernel_key, struct cancel *cancel, struct err *err);
/* Whether machines of ops run under KVM: as above, and found out if need be, by the VM's kernel. */
int vm_accel_know(struct vms *v, const struct vmm_ops *ops, const char *kernel_digest,
                  struct cancel *cancel, enum vmm_accel *ret, struct err *err);
/* The kernel's command line of a machine. */
int vm_cmdline(const struct vms *v, enum vmm_accel accel, const struct vm_machine *m,
               char ret_cmdline[CMDLINE_SIZE], struct err *err);
/* The same on a host of that TSC rate: VM_TSC_ANY for what machines of all hosts have in common. */
#define VM_TSC_ANY 1000000
int vm_cmdline_of(const struct vms *v, enum vmm_accel accel, uint32_t tsc_khz,
                  const struct vm_machine *m, char ret_cmdline[CMDLINE_SIZE], struct err *err);

/* ---- vm_load.c ---- */

/* Brings a VM whose run nobody holds to what the host says: adopted, stopped, or removed. */
int vm_settle(struct vms *v, const struct vm_row *row, struct err *err) REQUIRES(rank_vm);

static inline bool vm_is_starting(const struct vm_row *row)
{
    return row->state == VM_STARTING || row->state == VM_RESTORING;
}
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
/* Before anything is made. ERR_NO_SPACE. from_fd: the disk that its own begins as, -1 = an empty
 * one. */
int vm_admit_create(struct vms *v, const struct vm_row *row, const struct vmm_ops *ops, bool start,
                    int from_fd, struct vm_promise *ret_promise, struct err *err);

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

/* ---- vm_policy.c: what VMs do with nobody asking ---- */

struct vm_restart {
    bool on_failure, always; /* always is on_failure as well */
    unsigned max;            /* times in a row; 0 = no limit */
};
/* "no", "on-failure", "on-failure:N", "always"; else ERR_INVALID. */
int vm_restart_parse(const char *text, struct vm_restart *ret, struct err *err);
/* How long a VM that has been started again `count` times in a row waits for the next. */
int64_t vm_restart_wait_ms(unsigned count);
/* When a stopped VM is started again, on CLOCK_REALTIME; 0 = it is not. */
int64_t vm_restart_at(const struct vm_row *row);

enum vm_due_what {
    VM_DUE_NOTHING,
    VM_DUE_RESTART,
    VM_DUE_AUTOSTART,
    VM_DUE_IDLE_STOP,
    VM_DUE_EXPIRE,
};
struct vm_due {
    enum vm_due_what what;
    int64_t in_ms; /* from now; 0 = now */
};
struct vm_policy_clock {
    int64_t real_ms;       /* CLOCK_REALTIME */
    int64_t unused_ms;     /* since it was last used */
    int64_t expires_in_ms; /* by a clock that nobody sets */
    const char *host_boot;
};
/* What a VM does next by itself. Whether it is in use is for the caller to see. */
struct vm_due vm_policy_due(const struct vm_row *row, const struct vm_policy_clock *clock);

/* Whether what the row says of it goes together; else ERR_INVALID. */
bool vm_policy_check(const struct vm_row *row, struct err *err);
/* Its time begins anew. */
void vm_policy_set_expiry(struct vm_row *row, int64_t now_ms);
/* Before a row is set to stopped. */
void vm_policy_note_end(struct vm_row *row, int64_t now_ms);
/* Whether a stopped VM is going to start by itself. */
bool vm_policy_pending(const struct vms *v, const struct vm_row *row);

/* Whether vm_policy_look is to be called once the table is unlocked. */
bool vm_policy_wants_look_locked(struct vms *v, struct vm_entry *e);
/* Has the control loop look at what is due. Any thread. */
void vm_policy_look(struct vms *v);
/* Once all VMs are settled: from now on things are due. */
void vm_policy_begin(struct vms *v);
/* Somebody uses the VM: a session has ended, files were copied. */
void vm_used(struct vms *v, const char *id);
/* When no worker runs any more. */
void vm_policy_done(struct vms *v);

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
/* Stops it as vms_stop does without force, for a reason of ours. */
int vm_stop_for(struct vms *v, const char *id, const char *reason, struct cancel *cancel,
                int64_t deadline_ms, struct err *err) REQUIRES(rank_vm);
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

/* ---- vm_logs.c ---- */

#define VM_LOG_CONSOLE "console.log"
#define VM_LOG_VMM "vmm.log"
#define VM_LOG_PATH_SIZE 64
/* Of a VM's log, below the state directory. */
void vm_log_path(const char *id, const char *name, char ret_path[VM_LOG_PATH_SIZE]);
/* The end of one, as console_tail has it; "" when it cannot be read. Free it. */
char *vm_log_tail(const struct vms *v, const char *id, const char *name, size_t most);
/* A reference, or NULL when there is no such VM. */
struct log_file *vm_log_get(struct vms *v, const char *id, const char *name);

/* ---- cap_identity.c ---- */
/* Name, id and time, for a guest that has its boot id. */
void vm_tell_identity(const struct vm_hook *h, struct guest_configure *c);

/* ---- cap_net.c ---- */
bool vm_has_nat(const struct vm_row *row);
/* Whether machines have a network card here. */
bool vm_has_cards(const struct vms *v);
/* Fills in row->net_mode; wanted: "auto", "nat" or "none". ERR_UNSUPPORTED. */
int vm_choose_net(const struct vms *v, const char *wanted, struct vm_row *row, struct err *err);
/* A place in the address plan for a VM that is going to be stored or started and has none: one that
 * is to have no network goes without when all are taken. And of one that is not stored any more. */
int vm_take_slot(struct vms *v, struct vm_row *row, struct err *err);
void vm_give_slot(struct vms *v, const struct vm_row *row);
/* What a row of the store says that its VM has of these. */
void vm_keep_net(struct vms *v, struct vm_row *row);
/* Its name leads to it from now on, if it is connected. */
void vm_publish_name(struct vms *v, const struct vm_row *row);
/* Takes its TAP away and gives it to others. */
int vm_undo_tap(struct vms *v, const struct vm_row *row, const struct vm_object *o,
                struct err *err);

/* ---- cap_stats.c ---- */
/* What a process has used; -1: it cannot be told. */
int64_t vm_cpu_ms(pid_t pid);

/* ---- vm_events.c ---- */
void vm_on_vmm_event(void *run, enum vmm_event event);
void vm_on_link_event(void *run, enum guest_link_event event, const char *text);
void vm_on_session_event(void *vms, enum session_event event, const char *vm_id,
                         const char *session_id);

/* ---- vm_json.c ---- */
/* The VM object of a row: written, and as a tree of what was written. */
void vm_row_write(const struct vms *v, const struct vm_row *row, unsigned sessions,
                  struct api_writer *w);
int vm_row_json(const struct vms *v, const struct vm_row *row, unsigned sessions, json_t **ret,
                struct err *err);

/* ---- vm_template.c ---- */
/* In a virtual machine each cpuid takes as long as a system call or ten. */
void vm_describe_cpu(struct vm_cpu *ret);
/* The row of a machine that is nobody's, like another; its id is its name. */
void vm_hidden_row(struct vms *v, const struct vm_row *like, enum vm_role role,
                   struct vm_row *ret_row);
/* What every guest does first is done once. */
int vm_rehearse(struct vm_run *run, struct cancel *cancel, struct err *err);

/* ---- vm_pool.c: the caller holds the member's token ---- */
/* Makes a member the VM of row, which has its id: name, owner's wishes, time, in one commit. What
 * the member is comes into the row. named: it has its name already. ERR_ALREADY_EXISTS: that is
 * taken. */
int vm_pool_claim(struct vms *v, struct vm_row *row, bool named, struct err *err) REQUIRES(rank_vm);
/* It goes on, and is somebody else before anybody may use it. */
int vm_pool_wake(struct vms *v, const struct vm_row *row, struct op *op, struct err *err)
    REQUIRES(rank_vm);

/* ---- vm_create.c ---- */
/* Gives it a name, unless it has one, and its time. */
void vm_name_and_date(struct vms *v, struct vm_row *row, bool named) REQUIRES(rank_create);
/* Makes and starts the VM of a row that is nobody's, and whose id is its name: its reservation, its
 * disk, its start. On failure nothing is left. */
int vm_make_hidden(struct vms *v, struct vm_row *row, const struct vm_boot_params *params,
                   struct err *err) REQUIRES(rank_vm);
#define VM_PHASE_CLAIM "claim"
/* Whether its last start was that of a pool's member. */
static inline bool vm_was_claimed(const struct vm_row *row)
{
    return row->phase_count > 0 && strcmp(row->timeline[0].name, VM_PHASE_CLAIM) == 0;
}
/* Whether users see it. */
static inline bool vm_is_visible(const struct vm_row *row)
{
    return row->role == VM_ROLE_USER;
}
/* A DNS label, or NULL; else ERR_INVALID. */
int vm_check_name(const char *name, struct err *err);
/* Only under the create lock it stays as it is. */
bool vm_name_taken(struct vms *v, const char *name);

/* ---- vm_names.c ---- */
void vm_generate_name(random_fn random, char ret_name[64]);
