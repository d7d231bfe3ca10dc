/*
 * What the host asks of a guest: load, memory and disks, its processes, or who listens on its
 * ports. Written to standard output as codec/report.h describes it, by this program as a session's
 * child: asking a filesystem may take for ever. 0, or 1 when nothing could be written.
 */
#pragma once

int report_stats(void);
int report_processes(void);
int report_listeners(void);
