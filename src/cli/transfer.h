/*
 * One copy: bytes of a tar stream from a source to a sink. Each is a guest (struct remote), local
 * files (packed or unpacked by a thread of their own, which talks through pipes only), or one of
 * our standard streams. One thread waits for all of it; what is under way is bounded.
 */
#pragma once

#include "archive/archive.h"
#include "cli/remote.h"

struct transfer_params {
    struct cli *cli;
    int signals_fd;

    /* Exactly one source … */
    struct remote *from;
    const struct archive_pack *pack; /* its out_fd, report and arg are set here */
    bool from_stdin;

    /* … and one sink. */
    struct remote *to;
    const struct archive_unpack *unpack; /* as well */
    bool to_stdout;
};

/* Prints what fails. 0; 1 when something did; 128+n when signal n ended it. On return both sides
 * have ended and left no temporary files, unless a second signal came or a guest did not answer. */
int transfer_run(const struct transfer_params *params);
