/*
 * Kernel modules: which files of lib/modules/<version> to load, in which order. Reads what each
 * .ko says about itself, so neither depmod nor its files are needed. Stateless; everything below
 * the directory is untrusted and bounded.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define MODULE_NAME_SIZE 56 /* with the NUL, as in the kernel */
#define MODULES_MAX 128     /* files in one list */
#define MODULE_BYTES_MAX (64U << 20)

struct module_dep {
    char name[MODULE_NAME_SIZE]; /* with '_' for every '-' */
    bool soft;                   /* wanted before, but its absence is no error */
};

/* What a .ko says it needs, in the order in which to load them. */
struct module_info {
    struct module_dep *deps;
    size_t dep_count;
};

/* One module, ready to load. */
struct boot_module {
    char name[MODULE_NAME_SIZE];
    uint8_t *data;
    size_t len;
};

/* In load order: dependencies first, each once. */
struct module_list {
    struct boot_module *items;
    size_t count;
};

void module_info_done(struct module_info *info);
void module_list_done(struct module_list *list);

/* Cuts the signature off the end of each module that has one. Checking it costs an emulated guest
 * 7 ms a module, and the host vouches for the file anyway. Not for a kernel that insists on
 * signatures (CONFIG_MODULE_SIG_FORCE); others load it and set a taint flag. */
void module_list_strip_signatures(struct module_list *list);

/* 1 to 55 letters, digits, '_' and '-'. */
bool module_name_valid(const char *name);

/* Reads .modinfo (depends=, softdep=pre:) of an ELF64 x86-64 relocatable file. 0, or -EPROTO when
 * it is none or is malformed; a file without .modinfo needs nothing. */
int module_info(const uint8_t *elf, size_t len, struct module_info *ret_info) _must_check_;

/* The files that load `wanted` (module names, '-' and '_' equal; `count` of them) and all that
 * they need. dir_fd is lib/modules/<version>: modules.order and modules.builtin are read, and the
 * tree is walked for a name that modules.order lacks. A name in modules.builtin needs no file.
 * Files may be compressed (.gz, .xz, .zst); the bytes in the list are not.
 * Returns 0; ERR_NOT_FOUND naming a module that is neither built in nor there, ERR_INVALID for a
 * file that is damaged, ERR_LIMIT, ERR_IO. */
int modules_resolve(int dir_fd, const char *const wanted[], size_t count,
                    struct module_list *ret_list, struct err *err);
