/*
 * What a guest's agent reports of it (FRAME_FILES_STATS, _PROCESSES and
 * _LISTENERS): lines of words between
 * single spaces, of which the last may hold spaces. Pure: text -> objects of the protocol
 * (codec/api_objects.c). The guest is hostile: what it says is bounded, and wrong lines are an
 * error.
 *
 *     load M1 M5 M15                  thousandths
 *     memory TOTAL AVAILABLE          bytes, as all below
 *     disk SIZE USED AVAILABLE MOUNT  each filesystem that has a device, and the root
 *
 *     process PID PPID CPU_MS AGE_MS RSS STATE USER COMMAND
 *     listener PROTOCOL PORT PID USER ADDRESS COMMAND      PID 0: not known, and no COMMAND
 *
 *     more N                          processes or listeners that are not told, the last line
 *
 * Lines that begin with another word are of a newer agent, and skipped.
 */
#pragma once

#include "codec/json.h"

#define REPORT_MAX_BYTES ((size_t)512 * 1024)
#define REPORT_DISKS_MAX 64
#define REPORT_PROCESSES_MAX 1000
#define REPORT_LISTENERS_MAX 1000
#define REPORT_TEXT_MAX 256 /* of a mount or a command: the rest is cut off */

/* A GuestStats, a Processes or a Listeners object; the caller's. NULL: it is no such report. */
json_t *report_parse_stats(const char *text, size_t len);
json_t *report_parse_processes(const char *text, size_t len);
json_t *report_parse_listeners(const char *text, size_t len);
