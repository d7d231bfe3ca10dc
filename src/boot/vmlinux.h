/*
 * The kernel in the form that boots fastest: an ELF vmlinux with a PVH entry, which a VMM enters
 * directly, where a bzImage would first unpack itself in the (maybe emulated) guest. Stateless;
 * the image is untrusted.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define VMLINUX_MAX (512U << 20) /* uncompressed */
#define VMLINUX_RELEASE_SIZE 65  /* of the kernel's own utsname */

/* The ELF in a bzImage (payload gzip, xz, zstd, lz4 or plain) or a copy of an ELF vmlinux, checked
 * with vmlinux_check. The caller frees *ret_elf. Returns 0; ERR_INVALID for what is no kernel,
 * is damaged or cut short (the message says what it looks like), ERR_UNSUPPORTED for another
 * architecture, another compression or a kernel without PVH entry, ERR_LIMIT beyond VMLINUX_MAX. */
int vmlinux_extract(const uint8_t *image, size_t len, uint8_t **ret_elf, size_t *ret_len,
                    struct err *err);

/* Whether a VMM can boot this ELF: x86-64 executable, segments in the file, PVH entry note. */
int vmlinux_check(const uint8_t *elf, size_t len, struct err *err);

/* The release ("6.1.0-49-cloud-amd64": the name below lib/modules) of a bzImage, from its setup
 * header, or of an ELF vmlinux, from its banner. ERR_INVALID where there is none. */
int vmlinux_release(const uint8_t *image, size_t len, char ret_release[VMLINUX_RELEASE_SIZE],
                    struct err *err);
