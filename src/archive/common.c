#include "archive/archive_priv.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Bounds of what is remembered about hard links. */
#define LINKS_MAX 262144
#define LINKS_BYTES_MAX ((size_t)32 << 20)
#define LINKS_BUCKETS 4096

char *archive_name(const char *path)
{
    size_t end = strlen(path), start;
    char *name;

    while (end > 0 && path[end - 1] == '/') {
        end--;
    }
    start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    path += start;
    end -= start;
    if (end == 0 || (end <= 2 && memcmp(path, "..", end) == 0)) {
        path = ".";
        end = 1;
    }
    name = strndup(path, end);
    if (!name) {
        abort();
    }
    return name;
}

void archive_fail(archive_report_fn report, void *arg, const char *path, const char *what,
                  int error)
{
    char why[ARCHIVE_WHY_MAX];

    (void)snprintf(why, sizeof(why), "%s%s%s", what ? what : "", what && error ? ": " : "",
                   error ? strerror(error) : "");
    report(arg, path, why, "");
}

bool archive_wants_xattr(const char *name, bool keep_ids)
{
    static const char *const with_ids[] = {"security.capability", "system.posix_acl_access",
                                           "system.posix_acl_default"};

    if (strncmp(name, "user.", 5) == 0) {
        return true;
    }
    for (size_t i = 0; keep_ids && i < ARRAY_LEN(with_ids); i++) {
        if (strcmp(name, with_ids[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Hard links ------------------------------------------------------------------------------------
 */

struct link {
    struct link *next;
    dev_t dev;
    ino_t ino;
    char name[];
};

struct links {
    struct link *buckets[LINKS_BUCKETS];
    size_t count, bytes;
};

struct links *links_new(void)
{
    struct links *l = calloc(1, sizeof(*l));

    if (!l) {
        abort();
    }
    return l;
}

void links_free(struct links *l)
{
    for (size_t i = 0; l && i < LINKS_BUCKETS; i++) {
        while (l->buckets[i]) {
            struct link *next = l->buckets[i]->next;

            free(l->buckets[i]);
            l->buckets[i] = next;
        }
    }
    free(l);
}

static struct link **find(struct links *l, dev_t dev, ino_t ino)
{
    struct link **at = &l->buckets[(ino ^ (ino >> 12) ^ dev) % LINKS_BUCKETS];

    while (*at && ((*at)->ino != ino || (*at)->dev != dev)) {
        at = &(*at)->next;
    }
    return at;
}

const char *links_seen(struct links *l, dev_t dev, ino_t ino, const char *name, bool *ret_full)
{
    struct link **at = find(l, dev, ino);
    size_t len = strlen(name) + 1;
    struct link *link;

    *ret_full = false;
    if (*at) {
        return (*at)->name;
    }
    if (l->count >= LINKS_MAX || len > LINKS_BYTES_MAX - l->bytes) {
        *ret_full = true;
        return NULL;
    }
    link = malloc(sizeof(*link) + len);
    if (!link) {
        *ret_full = true;
        return NULL;
    }
    *link = (struct link){.next = *at, .dev = dev, .ino = ino};
    memcpy(link->name, name, len);
    *at = link;
    l->count++;
    l->bytes += len;
    return NULL;
}
