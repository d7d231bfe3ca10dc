/* Copies of disk files that cost what was written, not what they span. */
#pragma once

/* Makes the (empty) file to_fd a copy of from_fd: shares blocks where the filesystem can
 * (FICLONE, ioctl_ficlonerange(2)), else copies only the data (SEEK_DATA, copy_file_range(2) or
 * read and write), leaving the holes. 0 or -errno. */
int reflink_or_copy(int from_fd, int to_fd);
