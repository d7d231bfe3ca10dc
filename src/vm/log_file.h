/*
 * Where one is in a VM's log (its console, or what its VMM prints) whose beginning is cut off now
 * and then. A position counts the bytes of the log since this daemon began to look at it: it stays
 * the same when the file is cut, unlike an offset in the file. Lock: a leaf, held over one read of
 * a page of the file, or over the cutting. Threads: any.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LOG_MAX_BYTES (1024 * 1024)
#define LOG_KEEP_BYTES (256 * 1024)

struct log_file;

struct log_file *log_file_new(void);
struct log_file *log_file_get(struct log_file *log);
void log_file_put(struct log_file *log); /* accepts NULL */

/* Cuts the file (open for reading and appending) to its last LOG_KEEP_BYTES or a little more when
 * it is longer than LOG_MAX_BYTES. Who appends goes on meanwhile. */
void log_file_shorten(struct log_file *log, int fd);

struct log_page {
    char *data; /* the caller's */
    size_t len;
    uint64_t position; /* behind it */
    uint64_t skipped; /* bytes between where it was to begin and where it does: they were cut off */
};

/* From a position on: at most `most` bytes. -ERANGE: there is no such position. 0 or -errno. */
int log_file_read(struct log_file *log, int fd, uint64_t position, size_t most,
                  struct log_page *ret_page);
/* The last bytes. */
int log_file_read_end(struct log_file *log, int fd, size_t most, struct log_page *ret_page);
