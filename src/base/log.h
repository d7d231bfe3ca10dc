/*
 * One line per event on stderr, which the daemon points at its log file. Owners log at the edge,
 * once; base, codec and sys never log. Guest text is escaped by the caller (str_escape).
 * Threads: any; a line is one write(2).
 */
#pragma once

#include "base/attr.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Process-wide threshold, set once by main before any thread starts; default LOG_INFO. */
void log_init(enum log_level threshold);

void log_line(enum log_level level, const char *fmt, ...) _printf_(2, 3);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
