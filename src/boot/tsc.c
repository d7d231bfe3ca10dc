#include "boot/tsc.h"

#include "base/attr.h"

#include <cpuid.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#define SPAN_NS 5000000L
#define SPANS 3
#define TRIES 4
#define LOOKS 32 /* at the two clocks, of which the closest together counts */

struct moment {
    uint64_t tsc;
    uint64_t ns;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static uint64_t ordered_tsc(void)
{
    uint64_t tsc;

    _mm_lfence();
    tsc = __rdtsc();
    _mm_lfence();
    return tsc;
}

/* Both clocks at one moment: the reading that was interrupted least. */
static struct moment look(void)
{
    struct moment best = {0};
    uint64_t best_width = UINT64_MAX;

    for (int i = 0; i < LOOKS; i++) {
        uint64_t before = ordered_tsc();
        uint64_t ns = now_ns();
        uint64_t width = ordered_tsc() - before;

        if (width < best_width) {
            best_width = width;
            best = (struct moment){.tsc = before + width / 2, .ns = ns};
        }
    }
    return best;
}

/* The rate over each of a few spans: false when they differ by more than 1 in 5,000. */
static bool measure(uint64_t *ret_khz)
{
    uint64_t lowest = UINT64_MAX, highest = 0, sum = 0;
    struct moment from = look();

    for (int i = 0; i < SPANS; i++) {
        struct moment to;
        uint64_t khz;

        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = SPAN_NS}, NULL);
        to = look();
        if (to.ns <= from.ns || to.tsc <= from.tsc) {
            return false;
        }
        khz = (uint64_t)((unsigned __int128)(to.tsc - from.tsc) * 1000000U / (to.ns - from.ns));
        lowest = khz < lowest ? khz : lowest;
        highest = khz > highest ? khz : highest;
        sum += khz;
        from = to;
    }
    *ret_khz = (sum + SPANS / 2) / SPANS;
    return highest - lowest <= lowest / 5000;
}

static bool invariant(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1U << 8));
}

/* The rate that the processor or a hypervisor states, or 0. */
static uint64_t stated_khz(void)
{
    unsigned a, b, c, d;

    if (__get_cpuid(1, &a, &b, &c, &d) && (c & (1U << 31))) {
        __cpuid(0x40000000, a, b, c, d);
        if (a >= 0x40000010) {
            __cpuid(0x40000010, a, b, c, d);
            if (a) {
                return a;
            }
        }
    }
    /* Crystal in Hz (ecx) times ebx/eax. */
    if (__get_cpuid_count(0x15, 0, &a, &b, &c, &d) && a && b && c) {
        return (uint64_t)c * b / a / 1000;
    }
    return 0;
}

int tsc_host_khz(uint32_t *ret_khz)
{
    uint64_t khz = 0, stated = stated_khz();
    bool agreed = false;

    if (!invariant()) {
        return -EOPNOTSUPP;
    }
    for (int i = 0; i < TRIES && !agreed; i++) {
        agreed = measure(&khz);
    }
    if (!agreed) {
        return -EAGAIN;
    }
    if (khz < TSC_KHZ_MIN || khz > TSC_KHZ_MAX) {
        return -EOPNOTSUPP;
    }
    if ((stated > khz ? stated - khz : khz - stated) <= khz / 1000) {
        khz = stated;
    }
    *ret_khz = (uint32_t)khz;
    return 0;
}
