#include "launch/launch.h"

#include "base/attr.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_FD_MAX 255

enum kind { KIND_FLAG, KIND_NUMBER, KIND_ID, KIND_FD, KIND_PATH, KIND_BIND };

static const struct key {
    const char *name; /* with its '=' */
    enum kind kind;
    size_t offset;
} keys[] = {
    {"report=", KIND_FD, offsetof(struct launch_options, report_fd)},
    {"uid=", KIND_ID, offsetof(struct launch_options, uid)},
    {"gid=", KIND_ID, offsetof(struct launch_options, gid)},
    {"userns=", KIND_FLAG, offsetof(struct launch_options, user_namespace)},
    {"root=", KIND_FLAG, offsetof(struct launch_options, own_root)},
    {"kvm=", KIND_FLAG, offsetof(struct launch_options, kvm)},
    {"bind=", KIND_BIND, 0},
    {"as=", KIND_NUMBER, offsetof(struct launch_options, memory_bytes)},
    {"fsize=", KIND_NUMBER, offsetof(struct launch_options, file_bytes)},
    {"nproc=", KIND_NUMBER, offsetof(struct launch_options, tasks)},
    {"nofile=", KIND_NUMBER, offsetof(struct launch_options, files)},
    {"cgroup=", KIND_PATH, offsetof(struct launch_options, cgroup)},
    {"cgroup_memory=", KIND_NUMBER, offsetof(struct launch_options, cgroup_memory)},
};

/* Digits alone, at most max. */
static int parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    if (!*text) {
        return -1;
    }
    for (; *text; text++) {
        unsigned digit = (unsigned)(*text - '0');

        if (digit > 9 || digit > max || value > (max - digit) / 10) {
            return -1;
        }
        value = value * 10 + digit;
    }
    *ret = value;
    return 0;
}

static int parse_path(const char *text, const char **ret)
{
    if (text[0] != '/') {
        return -1;
    }
    *ret = text;
    return 0;
}

static int set(struct launch_options *o, const struct key *key, const char *value)
{
    void *at = (char *)o + key->offset;
    uint64_t n;

    switch (key->kind) {
    case KIND_PATH:
        return parse_path(value, at);
    case KIND_BIND:
        return o->bind_count < LAUNCH_BINDS_MAX && parse_path(value, &o->binds[o->bind_count]) == 0
                   ? (int)(o->bind_count++, 0)
                   : -1;
    case KIND_NUMBER:
        return parse_number(value, INT64_MAX, at);
    case KIND_FLAG:
        if (parse_number(value, 1, &n) < 0) {
            return -1;
        }
        *(bool *)at = n == 1;
        return 0;
    case KIND_FD:
        if (parse_number(value, REPORT_FD_MAX, &n) < 0 || n < 3) {
            return -1;
        }
        *(int *)at = (int)n;
        return 0;
    case KIND_ID:
        /* The last two mean "no change" and, in 16 bits, "no such id". */
        if (parse_number(value, UINT32_MAX - 2, &n) < 0 || n == 0) {
            return -1;
        }
        *(uid_t *)at = (uid_t)n;
        return 0;
    }
    return -1;
}

static int parse_one(struct launch_options *o, const char *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        size_t n = strlen(keys[i].name);

        if (strncmp(arg, keys[i].name, n) == 0) {
            return set(o, &keys[i], arg + n);
        }
    }
    return -1;
}

/* What does not go together. The name of what is missing, or NULL. */
static const char *missing(const struct launch_options *o)
{
    if (o->report_fd < 0) {
        return "report=";
    }
    if ((o->uid != 0) != (o->gid != 0)) {
        return "uid= and gid=";
    }
    if (o->tasks != 0 && o->uid == 0) {
        return "uid= with nproc=";
    }
    return !o->program || o->program[0] != '/' || !o->argv[0] ? "PROGRAM ARG..." : NULL;
}

int launch_parse(int argc, char **argv, struct launch_options *ret, const char **ret_wrong)
{
    struct launch_options o = {.report_fd = -1};
    const char *wrong = NULL;
    int i = 1;

    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (parse_one(&o, argv[i]) < 0 && !wrong) {
            wrong = argv[i];
        }
    }
    if (i + 2 < argc) {
        o.program = argv[i + 1];
        o.argv = argv + i + 2;
    }
    o.has_ids = o.uid != 0;
    *ret = o;
    *ret_wrong = wrong ? wrong : missing(&o);
    return *ret_wrong ? -1 : 0;
}
