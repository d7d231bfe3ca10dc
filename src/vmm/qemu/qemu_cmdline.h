/*
 * QEMU's command line from a VM's specification. Pure. Whatever QEMU opens it gets by descriptor;
 * the run directory is named only so that the process is known to be ours.
 */
#pragma once

#include "host/net.h"
#include "vmm/vmm.h"

#define QEMU_PROGRAM HOST_QEMU_PROGRAM
#define QEMU_ARGS_MAX 64
#define QEMU_NODE_DATA "data" /* the data disk, of whatever names a block node */

/* Descriptors of the process; those of absent disks are not open. 1 and 2 go to the VMM's log. */
enum qemu_fd {
    QEMU_FD_KERNEL = 3,
    QEMU_FD_INITRAMFS = 4,
    QEMU_FD_ROOT_DISK = 5,
    QEMU_FD_DATA_DISK = 6,
    QEMU_FD_CONSOLE = 7,
    QEMU_FD_QMP = 8,   /* listening */
    QEMU_FD_AGENT = 9, /* listening */
    QEMU_FD_MEMORY = 10,
    QEMU_FD_STATE = 11,
    QEMU_FD_TAP = HOST_QEMU_TAP_FD,
};

struct qemu_cmdline {
    char *argv[QEMU_ARGS_MAX + 1]; /* ends with NULL */
    size_t count;
};

/* 0, then free it with qemu_cmdline_done; ERR_INVALID for what QEMU would take for something else
 * (a name that is no DNS label, a relative run directory) or numbers out of range. */
int qemu_cmdline_build(const struct vmm_spec *spec, struct qemu_cmdline *ret, struct err *err);
/* What of it a saved machine and those restored from it have in common, one argument a line: all
 * but names, and what a guest boots from. Free it. */
char *qemu_cmdline_describe(const struct vmm_spec *spec);
void qemu_cmdline_done(struct qemu_cmdline *c);

/* Finds the version in the output of --version. 0 or -EPROTO. */
int qemu_parse_version(const char *text, char *ret_version, size_t size);
