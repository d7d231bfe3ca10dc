/*
 * Bounded reading of untrusted little-endian ELF64 files for x86-64. Headers are copied out, so
 * alignment does not matter. Everything returns 0, or -EPROTO for what is malformed or outside the
 * file. Stateless.
 */
#pragma once

#include "base/attr.h"

#include <elf.h>
#include <stdint.h>

#define ELF64_PROGRAMS_MAX 64
#define ELF64_SECTIONS_MAX 65535

struct elf64 {
    const uint8_t *data; /* borrowed */
    size_t len;
    Elf64_Ehdr header;
};

/* Checks the identification (-EPROTO when it is no ELF at all, is 32 bit, big endian or not for
 * x86-64) and that both header tables lie in the file. */
int elf64_open(struct elf64 *ret, const uint8_t *data, size_t len) _must_check_;

/* The i-th header, i < header.e_phnum or e_shnum, with its bytes checked to lie in the file
 * (of a section: unless it is SHT_NOBITS). */
int elf64_program(const struct elf64 *e, unsigned i, Elf64_Phdr *ret) _must_check_;
int elf64_section(const struct elf64 *e, unsigned i, Elf64_Shdr *ret) _must_check_;

/* The first section of that name: 1, 0 when there is none, -EPROTO. */
int elf64_find_section(const struct elf64 *e, const char *name, Elf64_Shdr *ret) _must_check_;
