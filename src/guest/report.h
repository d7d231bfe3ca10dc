/*
 * Asks a guest's agent for a report: a session of its own, which is nobody's work, and whose output
 * is read here. Any thread but the loops'; waits until the deadline at most. The text is the
 * guest's: codec/report.h.
 */
#pragma once

#include "base/buf.h"
#include "base/cancel.h"
#include "base/err.h"
#include "codec/frame.h"
#include "guest/session.h"

struct guest_report {
    struct session_registry *sessions;
    struct guest_link *link; /* whose HELLO has been answered */
    const char *vm_id;
    enum frame_files what; /* FRAME_FILES_STATS, _PROCESSES or _LISTENERS */
    const char *command;   /* NULL; or in its place a program of the guest's, without arguments */
    struct cancel *cancel;
    int64_t deadline_ms;
};

/* Appends to text, whose maximum bounds the report. ERR_UNSUPPORTED: the agent is older;
 * ERR_TIMEOUT, ERR_CANCELLED, ERR_GUEST. */
int guest_report_read(const struct guest_report *params, struct buf *text, struct err *err)
    EXCLUDES(rank_leaf);
