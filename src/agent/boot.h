/*
 * From the kernel's hand-over in the initramfs to the guest's own root. In this order, so that the
 * host hears of every failure that it can hear of: kernel filesystems, modules, the port to the
 * host; then, in boot_root, the disks, the overlay, the move to the new root.
 * Threads: one, PID 1. Failures: -errno with the reason in `why`.
 */
#pragma once

#include "base/attr.h"

#include <stdbool.h>

#define BOOT_WHY_MAX 400
#define BOOT_CMDLINE_MAX 4096

struct boot {
    int port_fd;
    int data_fd; /* the root directory of the data disk, or -1 */
    int disk_fd; /* and its block device */
    int uevent_fd;
    char cmdline[BOOT_CMDLINE_MAX];
    char why[BOOT_WHY_MAX];
};

void boot_init(struct boot *b);

/* Opens the port. 0 or -errno. */
int boot_port(struct boot *b) _must_check_;

/* Ends with / as the guest's root, fit for its programs. 0 or -errno. */
int boot_root(struct boot *b) _must_check_;

/* The value of `name=` on the kernel's command line; "" when it is not there. The host's words for
 * the agent begin with "banger.". */
void boot_param(const struct boot *b, const char *name, char *ret, size_t size);

/* Sets b->why to the text, ": " and the error's name; returns -error. */
int boot_fail(struct boot *b, int error, const char *fmt, ...) _printf_(3, 4);

/* The parts of boot_root after the disks are mounted (root.c): "/lower" (image), "/data" (data
 * disk or memory) to the overlay "/new"; then to "/". */
int root_join(struct boot *b) _must_check_;
int root_enter(struct boot *b) _must_check_;
