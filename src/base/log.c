#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static enum log_level level_min = LOG_INFO;

void log_init(enum log_level threshold)
{
    level_min = threshold;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char time[CLOCK_RFC3339_SIZE];
    char line[4096];
    int saved = errno;
    va_list ap;
    int n, m;

    if (level < level_min) {
        return;
    }
    clock_format_rfc3339(clock_real_ms(), time);
    n = snprintf(line, sizeof(line), "%s %s ", time, names[level]);
    va_start(ap, fmt);
    m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);
    n += m < (int)sizeof(line) - n - 1 ? m : (int)sizeof(line) - n - 2;
    line[n++] = '\n';
    (void)!write(STDERR_FILENO, line, (size_t)n);
    errno = saved;
}
