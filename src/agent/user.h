/*
 * Who a command runs as, from the guest's own /etc/passwd and /etc/group, which may hold anything.
 * Threads: one.
 */
#pragma once

#include "base/attr.h"

#include <sys/types.h>

#define USER_STRING_MAX 256
#define USER_GROUPS_MAX 256

struct user {
    uid_t uid;
    gid_t gid;
    size_t group_count;
    gid_t groups[USER_GROUPS_MAX];
    char name[USER_STRING_MAX]; /* "" when the uid has no name */
    char home[USER_STRING_MAX];
    char shell[USER_STRING_MAX];
};

/* Looks up `who`: a name or uid, optionally :group or :gid. A name wins over an equal number. An
 * unknown uid is group 0 and at home in /. With a group given, it is the only one. The files are
 * below etc ("/etc"). 0; -ENOENT: an unknown name, in *ret_unknown "user" or "group"; -errno. */
int user_find(struct user *ret, const char *who, const char *etc,
              const char **ret_unknown) _must_check_;
