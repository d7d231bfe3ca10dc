#include "base/clock.h"

#include <time.h>

int64_t clock_mono_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

int64_t clock_real_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void clock_format_rfc3339(int64_t real_ms, char ret_text[CLOCK_RFC3339_SIZE])
{
    time_t s = (time_t)(real_ms / 1000);
    char date[24];
    struct tm tm;

    ret_text[0] = '\0';
    if (real_ms <= 0 || !gmtime_r(&s, &tm)) {
        return;
    }
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(ret_text, CLOCK_RFC3339_SIZE, "%s.%03dZ", date, (int)(real_ms % 1000));
}
