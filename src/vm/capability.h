/*
 * What a VM has beyond a machine and an agent is a capability each: its disks, its logs, its
 * identity, what it does by itself; later networks, names and ports. A capability is a row of
 * hooks, all of them optional, in one list. The list is the constructor's (struct vms_params); the
 * core (vm_start.c, vm_stop.c, vm_set.c, vm_load.c) knows no capability by name and runs the hooks
 * in the order of the list: vm_capability.c.
 *
 * A hook that fails ends the row of hooks, and what those before it did is undone, in reverse. Each
 * undoes its own half before it returns the error.
 *
 * What a capability holds for one incarnation (memory, descriptors, watches) is its state, a
 * pointer of its own that nobody else reads. What is on the host and outlives a daemon is entered
 * in the VM's ledger before it is made, and taken back by vm_undo.c; an object needs its kind
 * there.
 *
 * Threads: any but the loops'. The caller holds the VM's token and no lock, but where a hook says
 * otherwise; so hooks of one VM never run at the same time. Hooks may wait as long as their cancel
 * allows.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "codec/json.h"
#include "doctor/doctor.h"
#include "guest/link.h"
#include "store/store.h"
#include "vmm/vmm.h"

struct vm_plan;
struct vm_run;
struct vms;

/* What hooks are called with; borrowed for the call. */
struct vm_hook {
    struct vms *vms;
    const struct vm_row *row;
    const struct vmm_ops *ops; /* of the VMM that runs it, or is to */
    struct vm_run *run;        /* NULL before the guest is up, and while it is stopped */
    struct cancel *cancel;     /* or NULL */
    void **state;              /* NULL at first; those before the VM has a run get none */
};

#define VM_CMDLINE_WORDS_MAX 16

/* The machine that is going to be started. Descriptors and words stay those of who gives them,
 * until post_start. */
struct vm_machine {
    struct vmm_spec spec;
    const char *words[VM_CMDLINE_WORDS_MAX]; /* of the kernel's command line */
    size_t word_count;
};
void vm_machine_add_word(struct vm_machine *m, const char *word);

struct vm_capability {
    const char *name;

    /* Only looks: whether a VM like that row can be. Before it is created, without its token, and
     * without state. */
    int (*create_preflight)(const struct vm_hook *h, struct err *err);
    /* The same before each start, and before anything is made for it. Without state. */
    int (*start_preflight)(const struct vm_hook *h, struct err *err);

    /* Makes and opens what the machine needs of the host. */
    int (*prepare_host)(const struct vm_hook *h, struct err *err);
    /* Adds to the machine, once all are prepared. */
    int (*machine_config)(const struct vm_hook *h, struct vm_machine *m, struct err *err);
    /* Adds to what the guest is told; texts live as long as row and state. Once its agent is there,
     * for each attempt to boot. */
    int (*guest_config)(const struct vm_hook *h, struct guest_configure *c, struct err *err);
    /* The guest is up and configured; the row does not say so yet. What only the start needed may
     * be let go of. */
    int (*post_start)(const struct vm_hook *h, struct err *err);
    /* In the place of all these, when the VM was started by an earlier daemon and is taken over. It
     * runs; its agent has not answered yet. Not ERR_NOT_FOUND, which would say that it has ended.
     */
    int (*adopt)(const struct vm_hook *h, struct err *err);

    /* Lets go of the state, in reverse order, once for each that was prepared or has adopted: the
     * start failed and its process is gone, or the run has ended, or this daemon ends and the VM
     * goes on. Accepts NULL. All are called whatever fails. */
    int (*cleanup)(void *state, struct err *err);

    /* vm.set, first half: says which of its fields change, and refuses. Does nothing yet. */
    void (*plan_config_change)(struct vm_plan *p);
    /* Second half, once the row is written: the VM, which may be running, is made what h->row says;
     * `was` is the row before. What has to wait for the next start waits. To undo it, it is called
     * the other way around, without a plan. */
    int (*apply_config_change)(const struct vm_hook *h, const struct vm_row *was, struct vm_plan *p,
                               struct err *err);

    /* Its members of a VMStats object. No token, only a reference to the run. */
    void (*add_stats)(const struct vm_run *run, json_t *o);

    /* What `banger doctor` asks of it, or NULL: ends with a NULL id; with a struct vm_doctor. */
    const struct doctor_check *doctor_checks;
};

/* Those that there are; ends with NULL. */
extern const struct vm_capability *const vm_capabilities[];
extern const struct vm_capability vm_cap_disks, vm_cap_init, vm_cap_logs, vm_cap_identity,
    vm_cap_net, vm_cap_policy, vm_cap_stats;

/* ---- running them: `list` ends with NULL, each function is for the hook of its name ---- */

#define VM_CAPABILITIES_MAX 16

/* The capabilities of one incarnation. Whoever holds the VM's token. */
struct vm_caps {
    const struct vm_capability *const *list;
    size_t held; /* how many, from the list's beginning, are to be cleaned up */
    void *state[VM_CAPABILITIES_MAX];
};

int vm_caps_create_preflight(const struct vm_capability *const *list, const struct vm_hook *h,
                             struct err *err);
int vm_caps_start_preflight(const struct vm_capability *const *list, const struct vm_hook *h,
                            struct err *err);

/* h->state is filled in by these. On failure of the first two nothing is held; after a failure of
 * the others the caller ends the process and cleans up. */
int vm_caps_prepare_host(struct vm_caps *caps, const struct vm_hook *h, struct err *err);
int vm_caps_adopt(struct vm_caps *caps, const struct vm_hook *h, struct err *err);
int vm_caps_machine_config(struct vm_caps *caps, const struct vm_hook *h, struct vm_machine *m,
                           struct err *err);
int vm_caps_guest_config(struct vm_caps *caps, const struct vm_hook *h, struct guest_configure *c,
                         struct err *err);
int vm_caps_post_start(struct vm_caps *caps, const struct vm_hook *h, struct err *err);

/* The errors are joined. Nothing is held afterwards; may be repeated. */
int vm_caps_cleanup(struct vm_caps *caps, struct err *err);

void vm_caps_plan_config_change(const struct vm_capability *const *list, struct vm_plan *p);
/* On failure those that had applied it have it undone; what could not be is in the error. */
int vm_caps_apply_config_change(struct vm_caps *caps, const struct vm_hook *h,
                                const struct vm_row *was, struct vm_plan *p, struct err *err);

void vm_caps_add_stats(const struct vm_capability *const *list, const struct vm_run *run,
                       json_t *o);
/* Adds the checks of all. ctx: a struct vm_doctor, borrowed for the list's life. */
void vm_caps_add_doctor_checks(const struct vm_capability *const *list, struct doctor *doctor,
                               const void *ctx);

/* ---- vm_set.c: for plan_config_change ---- */

struct vm_plan {
    struct vms *v;
    const json_t *params; /* validated */
    struct vm_row row;    /* as it is to be; owned */
    json_t *changes;      /* VMChange objects */
    struct err refusal;   /* the first */
    bool refused;
    bool renews; /* the time until it expires begins anew, though nothing else may change */
};

/* Adds a change; borrowed. applies: "live", "next_start". */
json_t *vm_plan_change(struct vm_plan *p, const char *field, const char *from, const char *to,
                       const char *applies);
/* A number that counts from the next start on. NULL when it stays as it is. */
json_t *vm_plan_number(struct vm_plan *p, const char *field, uint64_t now, uint64_t wanted);
/* That change is none, because of err. */
void vm_plan_refuse(struct vm_plan *p, json_t *change, const struct err *err);
/* The same, at once. */
void vm_plan_live(json_t *change);
/* What is to be known of the change of that field. p may be NULL. */
void vm_plan_note(struct vm_plan *p, const char *field, const char *note);
/* The same of one that was to be live, and has to wait for the next start. */
void vm_plan_postpone(struct vm_plan *p, const char *field, const char *note);
