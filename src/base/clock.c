#include "base/clock.h"

#include <errno.h>
#include <string.h>
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

int64_t clock_boot_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_real_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

const struct clock clock_system = {
    .mono_ms = clock_mono_ms,
    .boot_ms = clock_boot_ms,
    .real_ms = clock_real_ms,
};

/* Where its numbers are, and how many digits they have. */
static const char form[] = "0000-00-00T00:00:00.000Z";

static int read_digits(const char *text, int n)
{
    int value = 0;

    for (int i = 0; i < n; i++) {
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

static void write_digits(char *text, int n, int value)
{
    while (n-- > 0) {
        text[n] = (char)('0' + value % 10);
        value /= 10;
    }
}

bool clock_is_rfc3339(const char *text)
{
    size_t i = 0;

    while (form[i] && (form[i] == '0' ? text[i] >= '0' && text[i] <= '9' : text[i] == form[i])) {
        i++;
    }
    return !form[i] && !text[i];
}

int clock_parse_rfc3339(const char *text, int64_t *ret_real_ms)
{
    struct tm tm;

    if (!clock_is_rfc3339(text)) {
        return -EINVAL;
    }
    tm = (struct tm){.tm_year = read_digits(text, 4) - 1900,
                     .tm_mon = read_digits(text + 5, 2) - 1,
                     .tm_mday = read_digits(text + 8, 2),
                     .tm_hour = read_digits(text + 11, 2),
                     .tm_min = read_digits(text + 14, 2),
                     .tm_sec = read_digits(text + 17, 2)};
    *ret_real_ms = (int64_t)timegm(&tm) * 1000 + read_digits(text + 20, 3);
    return 0;
}

void clock_format_rfc3339(int64_t real_ms, char ret_text[CLOCK_RFC3339_SIZE])
{
    time_t s = (time_t)(real_ms / 1000);
    struct tm tm;

    ret_text[0] = '\0';
    if (real_ms <= 0 || !gmtime_r(&s, &tm) || tm.tm_year + 1900 > 9999) {
        return;
    }
    memcpy(ret_text, form, sizeof(form));
    write_digits(ret_text, 4, tm.tm_year + 1900);
    write_digits(ret_text + 5, 2, tm.tm_mon + 1);
    write_digits(ret_text + 8, 2, tm.tm_mday);
    write_digits(ret_text + 11, 2, tm.tm_hour);
    write_digits(ret_text + 14, 2, tm.tm_min);
    write_digits(ret_text + 17, 2, tm.tm_sec);
    write_digits(ret_text + 20, 3, (int)(real_ms % 1000));
}
