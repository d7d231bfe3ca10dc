/*
 * The kernel's switches of interfaces (the kernel's Documentation/networking/ip-sysctl.rst), and
 * what they were before us: that is written to a file before one of somebody else's is changed, so
 * that the next helper can put it back when this one is killed. The file is the daemon's, which
 * may write what it likes to it: only a closed set of names, with small numbers, is believed.
 * Owns the record. Threads: one at a time. Failures: 0 or -errno.
 */
#pragma once

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct sysctls;

/* root: "/proc/sys", or a test's. The record is runtime_dir/network.sysctls, written as `owner`. */
struct sysctls *sysctls_new(const char *root, const char *runtime_dir, uid_t owner);
void sysctls_free(struct sysctls *s);
DEFINE_CLEANUP(struct sysctls *, sysctls_free);

/* Reads what an earlier helper has noted; no file is fine. */
int sysctls_load(struct sysctls *s);

/* Of one of our TAPs: nothing is noted. A switch that this kernel does not have is -ENOENT. */
int sysctls_write(struct sysctls *s, const char *name, int value);
int sysctls_read(struct sysctls *s, const char *name, int *ret_value);

/* Of others': notes what it was, unless that is noted already or it is so. -EINVAL for a name that
 * is not of the closed set. */
int sysctls_change(struct sysctls *s, const char *name, int value);
/* Notes what it is, as a change of another will change it, too. */
int sysctls_note(struct sysctls *s, const char *name);

/* Puts back what was changed of interfaces that `keep` does not want, for those switches that are
 * an interface's own business. */
int sysctls_restore_others(struct sysctls *s, bool (*keep)(const char *interface, void *arg),
                           void *arg);

/* Puts everything back, and removes the file. Goes on after a failure, and returns the first; an
 * interface that is gone is none. */
int sysctls_restore_all(struct sysctls *s);
