/*
 * Keeps the file of a guest's serial console bounded: the VMM appends to it, the guest decides how
 * much. When it grows beyond the maximum, its beginning is dropped. Watched by inotify, looked at
 * once a second at most: one inotify descriptor for all, of which a user may have few. On the
 * loop's thread; the _new and _free may be called from any.
 */
#pragma once

#include "base/loop.h"
#include "vm/log_file.h"

#include <stddef.h>
#include <stdint.h>

struct console_watcher;
struct console_watch;

/* NULL when the kernel has no inotify descriptor left. */
struct console_watcher *console_watcher_new(struct loop *loop);
/* After all its watches. Accepts NULL. */
void console_watcher_free(struct console_watcher *watcher);

/* fd: the console file, read-write (taken). NULL when it cannot be watched, or watcher is NULL. */
struct console_watch *console_watch_new(struct console_watcher *watcher, struct log_file *log,
                                        int fd);
void console_watch_free(struct console_watch *w);

/* The last bytes of the file, at most `most`, cut at the start of a line where there is one;
 * escaped but for newlines. Free it. */
char *console_tail(int fd, size_t most);

/* The line that the daemon writes into the console file before each boot begins with this. */
#define CONSOLE_MARK "--- banger: "

/* The part of a console's text that came after the last mark: all of it when there is none. */
const char *console_since_boot(const char *text);
