/* Shared by the files of image/ only. */
#pragma once

#include "image/image.h"

#include "base/buf.h"
#include "boot/modules.h"
#include "codec/sha256.h"

#define IMAGE_SUFFIX ".ext4"

struct image_registry {
    /* immutable */
    struct store *store;
    struct space *space;
    int images_fd, kernels_fd, cache_fd;
    char *agent_path, *mkroot_path;
    image_build_fn build;
    spawn_fn spawn;
    const struct clock *clock;

    struct lock lock; /* rank image */
};

/* [a-z0-9] then [a-z0-9._/:-], at most STORE_NAME_MAX bytes. */
int image_check_name(const char *what, const char *name, struct err *err);

/* Reads what the child says on said_fd, and waits for its end. Its exit status, 128 and its signal,
 * or -ECANCELED. */
int image_wait_child(pid_t pid, int pidfd, int said_fd, struct cancel *cancel, struct buf *said);

void image_stage(const struct image_progress *p, const char *name);

/* SHA-256 of what is left of fd, as hex. Checks cancel every few MiB. */
int image_hash_fd(int fd, struct cancel *cancel, char ret_hex[SHA256_HEX_SIZE], struct err *err);

json_t *image_row_json(enum store_kind kind, const struct artifact_row *row);

/* Publishes under the image lock: moves dir_fd/temp to dir_fd/final unless that is there already
 * (then temp is removed), and commits the row. */
int image_publish(struct image_registry *r, enum store_kind kind, int dir_fd, const char *temp,
                  const char *final, struct artifact_row *row, const char *name, struct err *err);
