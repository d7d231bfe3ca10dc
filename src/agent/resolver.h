/*
 * The guest's nameservers, resolv.conf(5). Threads: one. 0 or -errno.
 */
#pragma once

#include "codec/frame.h"

#define RESOLVER_PATH "/etc/resolv.conf"

struct resolvers {
    char address[FRAME_RESOLVERS_MAX][FRAME_RESOLVER_SIZE];
    unsigned count;
};

/* One more, of a FRAME_TAG_RESOLVER. False: no address, or one too many. */
bool resolvers_add(struct resolvers *r, const uint8_t *text, size_t len);

/*
 * Makes them all that the file says, in the place of whatever an image has there: that is of where
 * it was made. A link to a file that exists is somebody's who looks after it (systemd-resolved, and
 * others) and is left alone: -EEXIST. One to nothing is the same of somebody who does not run: in
 * /run, where nothing is yet when a guest is told this for the first time. It becomes a file, which
 * the C library reads, and which systemd-resolved, should it begin later, takes its servers from.
 */
int resolvers_set(const char *path, const struct resolvers *r) _must_check_;

/* What stands there, FRAME_RESOLVERS_MAX at most. */
int resolvers_get(const char *path, struct resolvers *ret) _must_check_;
