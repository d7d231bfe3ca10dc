/*
 * Files and directories. Paths are relative to a held directory fd where there is one (AT_FDCWD
 * otherwise). All return 0 or a count, or -errno; all descriptors are O_CLOEXEC.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <sys/stat.h>

/* Makes path and its missing parents, mode for those it makes. An existing directory is fine. */
int fs_mkdir_p(const char *path, mode_t mode);

/* Opens (making it, 0700, when missing) a directory. The fd or -errno. */
int fs_open_dir(int dir_fd, const char *name, bool create);

/* Reads a whole regular file of at most max bytes. *ret_data is NUL-terminated beyond *ret_len;
 * the caller frees it. -EFBIG when larger, -EISDIR and -EINVAL for what is no regular file. */
int fs_read_file(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_len);

/* Writes a new file and gives it its name in dir_fd when it is whole (base/temp_file.h), so that
 * readers see the old content or the new, never a part; fsyncs file and directory when sync is set.
 */
int fs_write_atomic(int dir_fd, const char *name, const void *data, size_t len, mode_t mode,
                    bool sync);

int fs_write_all(int fd, const void *data, size_t len);

/* Removes name and everything below it without following symbolic links; missing is fine.
 * Goes on after errors and returns the first. */
int fs_remove_tree(int dir_fd, const char *name);

/* Bytes that an unprivileged writer may still use on the filesystem of fd. */
int fs_free_bytes(int fd, uint64_t *ret_bytes);

/* A Unix stream socket at dir_fd/name, however long the path of dir_fd is (sun_path holds 107
 * bytes). Listening: mode 0600 from birth; a stale socket file is replaced. Returns the fd. */
int fs_unix_listen(int dir_fd, const char *name, int backlog);
int fs_unix_connect(int dir_fd, const char *name);

/* Lets this process have as many descriptors as it may. */
void fs_raise_limit(void);
