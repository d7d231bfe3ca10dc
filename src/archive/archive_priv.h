/* Between the files of this folder. */
#pragma once

#include "archive/archive.h"
#include "codec/tar.h"

#include <sys/types.h>

#define ARCHIVE_WHY_MAX 256

/* What goes wrong with one file. */
void archive_fail(archive_report_fn report, void *arg, const char *path, const char *what,
                  int error);

/* May this attribute go over? Those that describe one machine (labels, overlay's own) may not. */
bool archive_wants_xattr(const char *name, bool keep_ids);

/* Hard links: which files were seen, by device and inode. Bounded. */
struct links;
struct links *links_new(void);
void links_free(struct links *l);
DEFINE_CLEANUP(struct links *, links_free);
/* The name under which the file was seen before, or NULL; then it is remembered. *ret_full: it
 * could not be. */
const char *links_seen(struct links *l, dev_t dev, ino_t ino, const char *name, bool *ret_full);

/* place.c: finding the way below a directory without ever following a symlink -------------------
 */

struct place {
    int root_fd;    /* borrowed */
    int dir_fd;     /* the last parent that was asked for, or -1 */
    struct buf dir; /* its path, with a NUL */
};

void place_init(struct place *p, int root_fd);
void place_done(struct place *p);

/* Splits `path` (normalised, not ".") and opens its parent; with `create`, makes parents that are
 * missing. *ret_dir is borrowed until the next call, *ret_name points into path. 0 or -errno:
 * -ELOOP or -ENOTDIR where something on the way is no directory. */
int place_find(struct place *p, const char *path, bool create, int *ret_dir, const char **ret_name);

/* Normalises a name of an archive into b (with a NUL): no empty and "." components; "." when
 * nothing is left. -EXDEV: absolute or with "..". -ENAMETOOLONG. */
int place_normalise(struct buf *b, const char *name);
