/* Lock hierarchy: log->lock is a leaf. */
#include "vm/log_file.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <string.h>

/* How often more is read of what comes in while the file is being cut. */
#define CATCH_UP_MAX 8

struct log_file {
    /* immutable */
    atomic_uint refs;

    /* under lock, and so is the cutting of the file */
    struct lock lock;
    uint64_t dropped; /* position of the file's first byte */
};

struct log_file *log_file_new(void)
{
    struct log_file *log = x_calloc(1, sizeof(*log));

    log->refs = 1;
    lock_init(&log->lock);
    return log;
}

struct log_file *log_file_get(struct log_file *log)
{
    log->refs++;
    return log;
}

void log_file_put(struct log_file *log)
{
    if (log && --log->refs == 0) {
        lock_done(&log->lock);
        free(log);
    }
}

/* Bytes cut off, in one step with regard to whoever appends: none is lost. ext4 and xfs can. */
static off_t collapse(int fd, const struct stat *st)
{
    off_t block = st->st_blksize > 0 ? st->st_blksize : 4096;
    off_t cut = (st->st_size - LOG_KEEP_BYTES) / block * block;

    return fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, cut) == 0 ? cut : -1;
}

/* Elsewhere what is appended between the last look at the size and the truncation, some
 * microseconds, is lost without a trace. */
static off_t rewrite(int fd, off_t size)
{
    size_t room = LOG_KEEP_BYTES + 64 * 1024, len = 0;
    _cleanup_free_ char *tail = x_calloc(1, room);
    off_t from = size - LOG_KEEP_BYTES;

    for (int i = 0; i < CATCH_UP_MAX && len < room; i++) {
        ssize_t n = pread(fd, tail + len, room - len, from + (off_t)len);

        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    if (ftruncate(fd, 0) < 0) {
        return -1;
    }
    (void)fs_write_all(fd, tail, len);
    return from;
}

void log_file_shorten(struct log_file *log, int fd)
{
    struct stat st;
    off_t cut;

    leaf_lock(&log->lock);
    if (fstat(fd, &st) == 0 && st.st_size > LOG_MAX_BYTES) {
        cut = collapse(fd, &st);
        cut = cut < 0 ? rewrite(fd, st.st_size) : cut;
        log->dropped += cut > 0 ? (uint64_t)cut : 0;
    }
    leaf_unlock(&log->lock);
}

static int read_locked(const struct log_file *log, int fd, uint64_t position, size_t most,
                       struct log_page *page) REQUIRES(rank_leaf)
{
    uint64_t from = position > log->dropped ? position : log->dropped;
    ssize_t n = pread(fd, page->data, most, (off_t)(from - log->dropped));

    if (n < 0) {
        return -errno;
    }
    page->len = (size_t)n;
    page->position = from + (uint64_t)n;
    page->skipped = from - position;
    return 0;
}

/* end: the position does not matter. */
static int read_page(struct log_file *log, int fd, bool end, uint64_t position, size_t most,
                     struct log_page *ret_page)
{
    struct log_page page = {.data = x_calloc(1, most + 1)};
    struct stat st;
    int r = 0;

    leaf_lock(&log->lock);
    if (fstat(fd, &st) < 0) {
        r = -errno;
    } else {
        uint64_t last = log->dropped + (uint64_t)st.st_size;

        if (end) {
            position = (uint64_t)st.st_size > most ? last - most : log->dropped;
        }
        r = position > last ? -ERANGE : read_locked(log, fd, position, most, &page);
    }
    leaf_unlock(&log->lock);
    if (r < 0) {
        free(page.data);
        return r;
    }
    *ret_page = page;
    return 0;
}

int log_file_read(struct log_file *log, int fd, uint64_t position, size_t most,
                  struct log_page *ret_page)
{
    return read_page(log, fd, false, position, most, ret_page);
}

int log_file_read_end(struct log_file *log, int fd, size_t most, struct log_page *ret_page)
{
    return read_page(log, fd, true, 0, most, ret_page);
}
