/* Shared by the files of snapshot/ only. */
#pragma once

#include "base/list.h"
#include "snapshot/template.h"
#include "vm/boot_slots.h"

#include <sys/stat.h>

#define TEMPLATE_MEMORY "memory"
#define TEMPLATE_DEVICES "devices"
#define TEMPLATE_DISK "disk.ext4"
#define TEMPLATE_DEVICES_MAX (16U << 20)
/* How its directory is called until it is whole. */
#define TEMPLATE_TEMP "tmp-"

/* What forks need of a template at hand: memory, and that the disk is as it was. */
struct template_loaded {
    int memory_fd; /* a sealed memfd; -1: it is not loaded */
    char *devices;
    size_t devices_len;
    struct stat disk; /* when it was compared with its digest */
};

struct template
{
    struct list node; /* table lock; of its own when it was taken out */
    int refs;         /* table lock; one of them is the table's */
    bool gone;        /* table lock: it was taken out */

    struct template_row row; /* immutable but for uses, used_ms and pool_size: table lock */
    int64_t written_ms;      /* table lock: what of used_ms the store knows */

    struct list members; /* table lock: struct member, of its pool, ready */
    unsigned member_count;
    int64_t pool_failed_ms; /* CLOCK_MONOTONIC; 0 = it did not */

    struct template_loaded loaded; /* who has the loading slot; set once */
    bool is_loaded; /* table lock; as long as somebody has a reference, loaded is then immutable but
                     * for disk */
};

/* A fork that is ready. */
struct member {
    struct list node;
    char id[ID_SIZE]; /* of its VM */
};

/* What could not be made, and is not tried again by itself for a while. */
struct failure {
    struct list node;
    char id[ID_SIZE];
    int64_t at_ms; /* CLOCK_MONOTONIC */
};

struct templates {
    /* immutable */
    struct templates_params params;
    const struct clock *clock;
    struct op_registry *ops;
    struct boot_slots *loading; /* one */
    struct boot_slots *making;  /* one */
    int dir_fd;                 /* templates/ */
    struct cancel *pool_stop;

    /* set before the pools' thread runs */
    pthread_t pool_thread;
    bool pool_runs;
    int pool_wake; /* eventfd, or -1 */

    struct lock table; /* a leaf */
    struct list list;  /* struct template, oldest first */
    struct list failures;
    struct list orphans; /* struct member, of templates that were taken out */
};

/* ---- template.c ---- */

/* A reference to the one of that id, or NULL. */
struct template *template_get(struct templates *t, const char *id);
void template_put(struct templates *t, struct template *one);
/* Enters one: row is copied, loaded taken over. In the place of one with its id. */
void template_add(struct templates *t, const struct template_row *row,
                  struct template_loaded *loaded);
/* What is left of its pool is for template_drain. Takes it out of store, table and disk; the
 * caller's reference stays. Also twice. Nobody makes one of its id as long as it is in the table.
 */
int template_remove(struct templates *t, struct template *one, struct err *err);
/* Its id: of the ingredients. */
void template_id_of(const json_t *ingredients, char ret_id[ID_SIZE]);
json_t *template_json(struct templates *t, struct template *one);

/* ---- template_file.c: the directory of one ---- */

void template_loaded_done(struct template_loaded *l);

/* The digest of what a file of holes and data has: its size, and each block of 4 KiB that is not
 * all zero, with its place. */
int template_digest(int fd, struct cancel *cancel, char ret_hex[SHA256_HEX_SIZE], struct err *err);

/* Opens its files, and compares them with their digests. ERR_IO says which is broken; cancelled or
 * out of memory is not that. */
int template_load(struct templates *t, const struct template_row *row, struct cancel *cancel,
                  struct template_loaded *ret, struct err *err);
/* Whether the disk is the file that was compared; if it has changed it is compared again. */
int template_check_disk(struct templates *t, struct template *one, struct cancel *cancel,
                        struct err *err);
/* Writes and syncs the files of a machine that was saved, fills in the row's digests and size, and
 * gives the directory its name. *loaded is what memory_fd, which is taken over and sealed, is by
 * then. */
int template_publish(struct templates *t, int dir_fd, int memory_fd, struct template_row *row,
                     struct cancel *cancel, struct template_loaded *ret, struct err *err);

/* Descriptors of a fork's own; it is loaded if it was not. */
int template_open_fork(struct templates *t, struct template *one, struct cancel *cancel,
                       struct vm_fork *ret, struct err *err);

/* ---- pool.c ---- */

/* How many it is to have, while it is in use. */
unsigned template_pool_size_locked(const struct templates *t, const struct template *one);
/* One that is ready is the caller's: its id. */
bool template_take_member(struct templates *t, struct template *one, char ret_id[ID_SIZE]);
/* Gives up what templates that were taken out had in their pools. Takes VMs' tokens, one after the
 * other: not for who has one. */
void template_drain(struct templates *t) EXCLUDES(rank_vm);
/* Something has changed: there may be members to be added. */
void template_pool_look(struct templates *t);
void template_pools_end(struct templates *t);

/* ---- template_make.c ---- */

void template_wanted(void *templates, const struct vm_row *row);
