/* Kernels and modules in miniature, made in memory: for the tests of src/boot. */
#pragma once

#include "base/buf.h"
#include "boot/decompress.h"

/* An ELF vmlinux with one segment, a PVH note and a version banner. ~1 KB, owned by the caller's
 * buffer, which is initialised here. */
void fixture_vmlinux(struct buf *ret);

/* A bzImage around the ELF, compressed in that way, which may be one that is not supported: then
 * just its magic is there. */
void fixture_bzimage(struct buf *ret, const struct buf *elf, enum compression kind);

/* One compressed stream of data, without the trailer that a kernel has. */
void fixture_compress(struct buf *ret, const void *data, size_t len, enum compression kind);

/* A .ko whose .modinfo has these NUL-terminated strings (modinfo ends with an empty one). */
void fixture_module(struct buf *ret, const char *modinfo, size_t modinfo_len);

/* Offsets in fixture_vmlinux's ELF, to spoil it. */
#define FIXTURE_ELF_NOTE 176 /* the note's bytes */
