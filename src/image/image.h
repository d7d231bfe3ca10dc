/*
 * The catalogue of images (read-only root disks) and kernels, both immutable, known by digest and
 * named by movable names. Files live in the state directory:
 *
 *     images/<hex>.ext4          kernels/<hex>/{vmlinux,order,NN-name.ko}
 *
 * and initramfs files, which also depend on the agent, in the cache directory.
 * Lock: image, held only around re-check and publish; slow work runs before it. Threads: any.
 */
#pragma once

#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/spawn.h"
#include "base/thread.h"
#include "codec/json.h"
#include "codec/sha256.h"
#include "disk/space.h"
#include "store/store.h"

struct image_registry;

/* How the caller hears of progress; fn may be NULL. */
struct image_progress {
    void (*stage)(void *arg, const char *name);
    void *arg;
    struct cancel *cancel;
};

/* A root disk to make of what is in a file; everything borrowed for the call. */
struct image_build {
    const char *mkroot_path;
    spawn_fn spawn;
    int from_fd;      /* a tar, packed or not, or whatever somebody took for one */
    const char *path; /* where that is, for errors */
    int dir_fd;
    const char *name; /* of the disk in dir_fd, which does not exist yet */
    struct cancel *cancel;
};
typedef int (*image_build_fn)(const struct image_build *b, struct err *err);
/* By banger-mkroot. */
int image_build_root(const struct image_build *b, struct err *err);

/* The first four are borrowed for its life; helper programs by absolute path, copied. The seams may
 * be NULL: then they are the functions named. */
struct image_registry_params {
    struct store *store;
    struct space *space;
    int state_fd, cache_fd;
    const char *agent_path, *mkroot_path;
    image_build_fn build;      /* image_build_root */
    spawn_fn spawn;            /* spawn_process */
    const struct clock *clock; /* clock_system */
};

/* What an earlier daemon had begun, or published without its row in the store, is removed: the
 * state directory is ours alone. */
int image_registry_new(const struct image_registry_params *params, struct image_registry **ret,
                       struct err *err);
void image_registry_free(struct image_registry *r);

/* Makes an image of the tar or ext4 image at path, and points name at it. *ret_json: Image. */
int image_register(struct image_registry *r, const char *name, const char *path,
                   const struct image_progress *progress, json_t **ret_json, struct err *err)
    EXCLUDES(rank_leaf);

/* Imports boot/vmlinuz-VERSION and its modules from an unpacked package. *ret_json: Kernel. */
int kernel_import(struct image_registry *r, const char *name, const char *path,
                  const struct image_progress *progress, json_t **ret_json, struct err *err)
    EXCLUDES(rank_leaf);

int image_list(struct image_registry *r, enum store_kind kind, json_t **ret_list, struct err *err);

/* Finds an image or kernel by name or digest. */
int image_find(struct image_registry *r, enum store_kind kind, const char *ref,
               struct artifact_row *ret_row, struct err *err);
/* The kernel to use when nobody named one: `preferred` if it is not NULL, else the newest. */
int kernel_find_default(struct image_registry *r, const char *preferred,
                        struct artifact_row *ret_row, struct err *err);

/* Opens an image's root disk, read-only. The caller closes *ret_fd. */
int image_open_disk(struct image_registry *r, const char *digest, int *ret_fd, struct err *err);

#define IMAGE_INIT_SIZE 64
/* The path of the init that an image boots with; name is for errors. ERR_INVALID: it has none. */
int image_find_init(struct image_registry *r, const char *digest, const char *name,
                    struct cancel *cancel, char ret_path[IMAGE_INIT_SIZE], struct err *err);

/* The SHA-256 of the agent that kernels boot with. */
int image_agent_digest(struct image_registry *r, char ret_hex[SHA256_HEX_SIZE], struct err *err);

/* Opens a kernel's vmlinux and the initramfs of this kernel and our agent, made when missing. */
int kernel_open(struct image_registry *r, const char *digest, int *ret_kernel_fd,
                int *ret_initramfs_fd, struct err *err);
