/*
 * The initramfs: our agent as /init, the kernel modules it loads, and empty mount points. Nothing
 * of an image is in it, so one initramfs serves every VM of a kernel.
 *
 *   /init                      the agent, 0755
 *   /dev/console               c 5:1, so that the kernel gives /init its three standard streams
 *   /dev /proc /sys /mnt /run  empty directories to mount on
 *   /modules/00-NAME.ko …      in load order
 *   /modules/order             their file names in load order, one a line
 *
 * Uncompressed: unpacking it in an emulated guest costs more than the bytes. The same input gives
 * the same bytes (a cache key may hash it).
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "boot/modules.h"

#define INITRAMFS_MAX (256U * 1024 * 1024)

/* Appends the archive to out, whose maximum bounds it (INITRAMFS_MAX is a good one). modules may
 * be NULL: all built in. Returns 0; ERR_INVALID for an empty agent or a module name that cannot be
 * a file name, ERR_LIMIT when out is too small; out is then as before. */
int initramfs_write(struct buf *out, const uint8_t *agent, size_t agent_len,
                    const struct module_list *modules, struct err *err);
