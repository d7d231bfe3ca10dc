/* Time, and the seam through which owners get it. Waits and their deadlines are CLOCK_MONOTONIC's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CLOCK_RFC3339_SIZE 32

/* What time it is, for what owners note and decide; they get it in their constructor. */
struct clock {
    int64_t (*mono_ms)(void);
    int64_t (*boot_ms)(void);
    int64_t (*real_ms)(void);
};
extern const struct clock clock_system; /* the functions below */

int64_t clock_mono_ms(void); /* CLOCK_MONOTONIC */
int64_t clock_mono_us(void);
int64_t clock_boot_ms(void); /* CLOCK_BOOTTIME: as the first, and also while the host sleeps */
int64_t clock_real_ms(void); /* CLOCK_REALTIME, since 1970 */

/* "2026-11-23T16:02:03.004Z", and nothing else; real_ms 0 gives "". */
void clock_format_rfc3339(int64_t real_ms, char ret_text[CLOCK_RFC3339_SIZE]);
/* Whether text has that form. */
bool clock_is_rfc3339(const char *text);
/* Back: 0, or -EINVAL for any other form. */
int clock_parse_rfc3339(const char *text, int64_t *ret_real_ms);
