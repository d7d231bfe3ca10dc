#include "disk/space.h"

#include "base/list.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RESERVE_PART 20 /* at most a twentieth of a filesystem */
#define ROOM_LEAST_BYTES (1ull << 20)

struct space {
    uint64_t min_free_bytes; /* immutable */

    struct lock lock;   /* rank leaf */
    struct list claims; /* struct space_claim, oldest first */
};

struct space_claim {
    struct space *space;
    struct list node;
    dev_t device;
    uint64_t bytes;
};

struct room {
    uint64_t free_bytes, reserve_bytes;
};

struct space *space_new(uint64_t min_free_bytes)
{
    struct space *s = x_calloc(1, sizeof(*s));

    s->min_free_bytes = min_free_bytes;
    lock_init(&s->lock);
    list_init(&s->claims);
    return s;
}

void space_free(struct space *s)
{
    if (s) {
        lock_done(&s->lock);
        free(s);
    }
}

static int look(const struct space *s, int fd, struct room *ret)
{
    struct statvfs st;
    uint64_t part;

    if (fstatvfs(fd, &st) < 0) {
        return -errno;
    }
    part = (uint64_t)st.f_blocks * st.f_frsize / RESERVE_PART;
    ret->free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    ret->reserve_bytes = s->min_free_bytes < part ? s->min_free_bytes : part;
    return 0;
}

/* The directory's path, escaped. Free it. */
static char *path_of(int dir_fd)
{
    char link[64], path[4096];
    ssize_t n;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
    n = readlink(link, path, sizeof(path));
    return str_escape(path, n > 0 ? (size_t)n : 0, sizeof(path));
}

static int too_full(int dir_fd, const char *what, uint64_t bytes, const struct room *room,
                    uint64_t promised_bytes, struct err *err)
{
    char need[STR_BYTES_SIZE], kept[STR_BYTES_SIZE], promised[STR_BYTES_SIZE], is[STR_BYTES_SIZE];
    _cleanup_free_ char *path = path_of(dir_fd);

    err_set(err, ERR_NO_SPACE, "the filesystem of '%s' is too full for %s: %s needed at least",
            path, what, str_bytes(bytes, need));
    if (promised_bytes > 0) {
        err_append(err, ", %s promised to others", str_bytes(promised_bytes, promised));
    }
    if (room->reserve_bytes > 0) {
        err_append(err, ", %s kept free", str_bytes(room->reserve_bytes, kept));
    }
    err_append(err, ", and %s free", str_bytes(room->free_bytes, is));
    return err_hint(
        err, "make room there%s",
        room->reserve_bytes > 0
            ? ", delete VMs (banger ps -a), or set a smaller min_free_mib in config.toml"
            : ", or delete VMs that are not needed (banger ps -a)");
}

/* Of the same filesystem and made before mine. */
static uint64_t promised_before_locked(const struct space *s, const struct space_claim *mine)
{
    uint64_t sum = 0;

    list_for_each (it, &s->claims) {
        const struct space_claim *c = LIST_ENTRY(it, struct space_claim, node);

        if (c == mine) {
            break;
        }
        sum += c->device == mine->device ? c->bytes : 0;
    }
    return sum;
}

int space_claim(struct space *s, int dir_fd, const char *what, uint64_t bytes,
                struct space_claim **ret_claim, struct err *err)
{
    struct space_claim *c;
    uint64_t promised;
    struct room room = {0};
    struct stat st;
    int r;

    if (fstat(dir_fd, &st) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot tell how much space is free");
    }
    c = x_calloc(1, sizeof(*c));
    c->space = s;
    c->device = st.st_dev;
    c->bytes = bytes;
    /* First the promises and then the disk: one that ends in between counts twice, not never. */
    leaf_lock(&s->lock);
    list_append(&s->claims, &c->node);
    promised = promised_before_locked(s, c);
    leaf_unlock(&s->lock);
    r = look(s, dir_fd, &room);
    if (r < 0) {
        err_set_errno(err, ERR_IO, r, "cannot tell how much space is free");
    } else if (room.free_bytes < bytes + promised + room.reserve_bytes) {
        r = too_full(dir_fd, what, bytes, &room, promised, err);
    }
    if (r < 0) {
        space_claim_end(c);
        return -1;
    }
    *ret_claim = c;
    return 0;
}

void space_claim_end(struct space_claim *c)
{
    if (c) {
        leaf_lock(&c->space->lock);
        list_remove(&c->node);
        leaf_unlock(&c->space->lock);
        free(c);
    }
}

bool space_has_room(const struct space *s, int fd)
{
    struct room room = {0};

    return look(s, fd, &room) == 0 && room.free_bytes >= ROOM_LEAST_BYTES &&
           room.free_bytes >= room.reserve_bytes;
}
