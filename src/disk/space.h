/*
 * Free space, before work begins. What fills a disk (a new VM, image or kernel) is admitted only if
 * it fits beside what was promised to others that have not finished writing, and leaves the reserve
 * free: for guests that run, and for us. The reserve is `min_free_mib` of the configuration, of a
 * small filesystem a twentieth.
 * Owner of the ledger of promises; lock: leaf. Threads: any. Failure: ERR_NO_SPACE, ERR_IO.
 */
#pragma once

#include "base/err.h"
#include "base/thread.h"

#include <stdbool.h>
#include <stdint.h>

/* What a guest writes while it boots: 0.2 MiB with a small image. A start needs so much, also below
 * the reserve (disk/doctor.c). */
#define SPACE_BOOT_BYTES (1ull << 20)

struct space;
struct space_claim;

struct space *space_new(uint64_t min_free_bytes);
/* When all claims have ended. Accepts NULL. */
void space_free(struct space *s);

/* Promises `bytes` of the filesystem of dir_fd, a directory, to `what` ("image 'debian'"), or says
 * what is needed, what is free and where. Bytes already written are counted twice until the claim
 * ends, once as used and once as promised: rather too careful than not. */
int space_claim(struct space *s, int dir_fd, const char *what, uint64_t bytes,
                struct space_claim **ret_claim, struct err *err) EXCLUDES(rank_leaf);
void space_claim_end(struct space_claim *claim) EXCLUDES(rank_leaf); /* accepts NULL */
DEFINE_CLEANUP(struct space_claim *, space_claim_end);
#define _cleanup_space_claim_ _cleanup_(space_claim_end_p)

/* Whether there is as much free as what a full disk has stopped waits for: the reserve, and more
 * than nothing. A filesystem that cannot be asked has no room. May take as long as the filesystem
 * does. */
bool space_has_room(const struct space *s, int fd);
