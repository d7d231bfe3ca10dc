#include "agent/user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A regular file, so that reading it cannot block; and fgetpwent, because getpwnam may ask nscd. */
static FILE *open_table(const char *etc, const char *name)
{
    char path[USER_STRING_MAX];
    _cleanup_close_ int fd = -1;
    struct stat st;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", etc, name);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return NULL;
    }
    file = fdopen(fd, "re");
    if (file) {
        fd = -1;
    }
    return file;
}

static void close_file_p(FILE **file)
{
    if (*file) {
        (void)fclose(*file);
    }
}

/* A plain decimal number below 2^32 - 1, which is no valid id. */
static bool parse_id(const char *s, uint32_t *ret)
{
    uint64_t v = 0;

    if (!*s) {
        return false;
    }
    for (; *s; s++) {
        if (*s < '0' || *s > '9') {
            return false;
        }
        v = v * 10 + (uint64_t)(*s - '0');
        if (v >= UINT32_MAX) {
            return false;
        }
    }
    *ret = (uint32_t)v;
    return true;
}

static void take_passwd(struct user *user, const struct passwd *pw)
{
    user->uid = pw->pw_uid;
    user->gid = pw->pw_gid;
    (void)snprintf(user->name, sizeof(user->name), "%s", pw->pw_name);
    (void)snprintf(user->home, sizeof(user->home), "%s", pw->pw_dir);
    (void)snprintf(user->shell, sizeof(user->shell), "%s", pw->pw_shell);
}

static int find_user(struct user *user, const char *name, const char *etc)
{
    _cleanup_(close_file_p) FILE *file = open_table(etc, "passwd");
    uint32_t id = UINT32_MAX;
    bool is_id = parse_id(name, &id), found = false;
    struct passwd *pw;

    while (file && (pw = fgetpwent(file))) {
        if (strcmp(pw->pw_name, name) == 0) {
            take_passwd(user, pw);
            return 0;
        }
        if (is_id && !found && pw->pw_uid == id) {
            take_passwd(user, pw);
            found = true;
        }
    }
    if (found) {
        return 0;
    }
    if (!is_id && strcmp(name, "root") != 0) {
        return -ENOENT;
    }
    /* Root must be able to work in an image without a passwd file. */
    user->uid = is_id ? id : 0;
    user->gid = 0;
    if (user->uid == 0) {
        (void)snprintf(user->name, sizeof(user->name), "root");
    }
    return 0;
}

static int find_group(struct user *user, const char *name, const char *etc)
{
    _cleanup_(close_file_p) FILE *file = open_table(etc, "group");
    struct group *gr;
    uint32_t id;

    while (file && (gr = fgetgrent(file))) {
        if (strcmp(gr->gr_name, name) == 0) {
            user->gid = gr->gr_gid;
            return 0;
        }
    }
    if (!parse_id(name, &id)) {
        return -ENOENT;
    }
    user->gid = id;
    return 0;
}

static void find_groups(struct user *user, const char *etc)
{
    _cleanup_(close_file_p) FILE *file = open_table(etc, "group");
    struct group *gr;

    while (file && user->name[0] && (gr = fgetgrent(file))) {
        for (char **member = gr->gr_mem; *member; member++) {
            if (strcmp(*member, user->name) == 0 && gr->gr_gid != user->gid &&
                user->group_count < USER_GROUPS_MAX) {
                user->groups[user->group_count++] = gr->gr_gid;
                break;
            }
        }
    }
}

int user_find(struct user *ret, const char *who, const char *etc, const char **ret_unknown)
{
    const char *colon = strchr(who, ':');
    size_t len = colon ? (size_t)(colon - who) : strlen(who);
    char name[USER_STRING_MAX];

    *ret = (struct user){0};
    *ret_unknown = "user";
    if (len >= sizeof(name)) {
        return -ENAMETOOLONG;
    }
    memcpy(name, who, len);
    name[len] = 0;
    if (find_user(ret, len > 0 ? name : "root", etc) < 0) {
        return -ENOENT;
    }
    if (!ret->home[0]) {
        (void)snprintf(ret->home, sizeof(ret->home), "/");
    }
    if (!ret->shell[0]) {
        (void)snprintf(ret->shell, sizeof(ret->shell), "/bin/sh");
    }
    if (colon && colon[1]) {
        *ret_unknown = "group";
        if (find_group(ret, colon + 1, etc) < 0) {
            return -ENOENT;
        }
        ret->groups[ret->group_count++] = ret->gid;
    } else {
        ret->groups[ret->group_count++] = ret->gid;
        find_groups(ret, etc);
    }
    return 0;
}
