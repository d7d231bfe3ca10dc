/*
 * Data disks: one sparse, empty ext4 file per VM, which the guest's overlay writes to. Making one
 * copies a formatted file of the same size from the cache (0.1 ms of work); mke2fs runs once per
 * size. Stateless. Failure: ERR_IO, ERR_NO_SPACE, ERR_UNSUPPORTED without mke2fs.
 */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/spawn.h"

#include <stdint.h>

#define DATA_DISK_MIN_BYTES (64ull << 20)
#define DATA_DISK_MAX_BYTES (64ull << 40)

/* Makes dir_fd/name (which must not exist), 0600, of `bytes`, a multiple of 4096. The cache lies
 * in cache_fd, a directory that all of the owner's daemons may share. */
int data_disk_create(int cache_fd, int dir_fd, const char *name, uint64_t bytes, spawn_fn spawn,
                     struct cancel *cancel, struct err *err);

/* Makes dir_fd/name (which must not exist), 0600, a copy of a disk that nobody writes to. */
int data_disk_copy(int from_fd, int dir_fd, const char *name, struct err *err);

/* How many bytes of the filesystem a disk occupies. */
uint64_t data_disk_occupies(int fd);

/* About what data_disk_create will write: to the directory of the disk, and to the cache. */
void data_disk_estimate(int cache_fd, uint64_t bytes, uint64_t *ret_disk_bytes,
                        uint64_t *ret_cache_bytes);
