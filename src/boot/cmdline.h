/*
 * The kernel's command line, as a function of what the VM is. Stateless. Figures: Debian 12's
 * 6.1 cloud kernel under QEMU 7.2's TCG.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define CMDLINE_SIZE 2048 /* with the NUL: COMMAND_LINE_SIZE of Linux on x86 */
#define CMDLINE_VCPUS_MAX 255

struct cmdline_params {
    /* TCG. Adds what an emulated guest needs to boot surely (the host's TSC rate, so that nothing
     * is calibrated against emulated timers) and what saves it work. */
    bool emulated;
    uint32_t tsc_khz; /* from tsc_host_khz; needed when emulated, else 0 is "leave it alone" */
    unsigned vcpus;   /* 1 … CMDLINE_VCPUS_MAX */
    bool console;     /* kernel messages and /dev/console on the serial port ttyS0 */
    bool verbose;     /* all messages, not just errors: each costs time in the guest */
    bool no_tracing;  /* emulated only: leaves /sys/kernel/tracing empty, which saves 100 ms */
    const char *const *extra; /* more words, as given; the kernel lets later ones win */
    size_t extra_count;
};

/* Writes the command line. Returns 0; ERR_INVALID for a value out of
 * range or an extra word with blanks, quotes or other than printable ASCII, ERR_LIMIT when it does
 * not fit. */
int cmdline_build(const struct cmdline_params *params, char ret_cmdline[CMDLINE_SIZE],
                  struct err *err);
