/*
 * What the back end of the fake VMM and its program agree on.
 *
 *     banger-fakevmm NAME RUN-DIR [FAULTS]
 *
 * The program opens nothing by path; the run directory is there to be found on the command line.
 */
#pragma once

#define FAKE_PROGRAM "banger-fakevmm"

/* Fake VMs are refused unless the daemon has this in its environment, with the value 1. */
#define FAKE_VARIABLE "BANGER_FAKE_VMM"

/* The label of a VM that has its faults, fakevmm/fault.h. */
#define FAKE_LABEL "banger.fake"

/* Descriptors of the process; 1 and 2 go to the VMM's log. */
enum fake_fd {
    FAKE_FD_AGENT = 3,   /* listening */
    FAKE_FD_CONSOLE = 4, /* appended to */
    FAKE_FD_CONTROL = 5, /* FIFO, read-write; there when FAULTS are */
};

/* The FIFO in the run directory. A line "go" ends one `wait`. */
#define FAKE_CONTROL "control"
