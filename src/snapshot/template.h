/*
 * Templates: machines that were booted once and saved, from which VMs are forked in the place of
 * booting. There is one per set of ingredients (vms_ingredients), and a change of any of them makes
 * another. A template never saw anything of a user's: no key, secret, environment or file, and its
 * guest has opened no TCP socket.
 *
 *     templates/<id>/{memory,devices,disk.ext4}   in the state directory
 *
 * The memory is copied into a sealed memfd when a template is first used, and compared with its
 * digest there, where nobody can change it any more; forks map that. It is let go of when nobody
 * has used it for a while, or the host has little memory left. The row in the store has the
 * digests. What does not agree is never run: it is removed, and made again when it is next wanted.
 * A directory without a row, and a row without a directory, are removed when a daemon starts.
 *
 * Owner of the table of templates; lock: a leaf. Loading is done by one thread at a time. Threads:
 * any but the loops'.
 */
#pragma once

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/thread.h"
#include "codec/json.h"
#include "disk/space.h"
#include "ops/op.h"
#include "store/store.h"
#include "vm/vm.h"

struct templates;

/* Borrowed for its life. */
struct templates_params {
    struct store *store;
    struct space *space;
    struct vms *vms;
    int state_fd;
    uint32_t tsc_khz;          /* of the host; 0 = unknown */
    bool automatic;            /* one is made when a VM booted that could have been a fork */
    uint64_t budget_bytes;     /* of the disk; those that were not used for longest go */
    unsigned pool_size;        /* forks that are kept ready, of each template that is in use */
    const struct clock *clock; /* NULL = clock_system */
};

int templates_new(const struct templates_params *params, struct templates **ret, struct err *err)
    EXCLUDES(rank_leaf);
/* Once the VMs are loaded: from now on there are pools. */
int templates_start_pools(struct templates *t, struct err *err) EXCLUDES(rank_leaf);
/* Cancels what is being made, and gives up the pools. No VM may be created any more. Accepts NULL.
 */
void templates_stop(struct templates *t);
/* After templates_stop. Accepts NULL. */
void templates_free(struct templates *t);

/* What VMs ask of it. */
struct vm_templates templates_for_vms(struct templates *t);
/* Its operations: template.create. */
struct op_registry *templates_ops(struct templates *t);

/* Begins to make one for VMs that are created with these validated params of template.create.begin;
 * the result is the Template, also when it is there already. */
int templates_create_begin(struct templates *t, const json_t *params, char ret_op[ID_SIZE],
                           struct err *err) EXCLUDES(rank_leaf);

/* Template objects, oldest first. */
int templates_list(struct templates *t, json_t **ret, struct err *err) EXCLUDES(rank_leaf);
/* ref: an id or a unique prefix of one, in all of these. */
int templates_show(struct templates *t, const char *ref, json_t **ret, struct err *err)
    EXCLUDES(rank_leaf);
/* VMs that were forked from it go on. */
int templates_delete(struct templates *t, const char *ref, struct err *err) EXCLUDES(rank_leaf);

/* How many forks of it are kept ready while it is in use; -1: as the configuration says. */
int templates_set_pool(struct templates *t, const char *ref, int size, json_t **ret,
                       struct err *err) EXCLUDES(rank_leaf);

/* Reads the files of one (ref), or of all (NULL), and removes those that are broken. *ret: a list
 * of TemplateCheck objects. */
int templates_verify(struct templates *t, const char *ref, struct cancel *cancel, json_t **ret,
                     struct err *err) EXCLUDES(rank_leaf);

/* Removes those that were not used for so long, and then of the rest those that were not used for
 * longest, until they fit into keep_bytes. *ret: Template objects of those. */
struct templates_prune {
    int64_t unused_for_ms;
    uint64_t keep_bytes;
    bool dry_run;
};
int templates_prune(struct templates *t, const struct templates_prune *what, json_t **ret,
                    struct err *err) EXCLUDES(rank_leaf);
