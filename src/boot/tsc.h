/*
 * The host's time stamp counter. Under TCG a guest's counter runs at the host's rate, and the
 * guest must be told that rate: left alone it measures it against an emulated timer, which fails
 * now and then and then hangs the boot.
 */
#pragma once

#include <stdint.h>

#define TSC_KHZ_MIN 100000U /* what is plausible */
#define TSC_KHZ_MAX 20000000U

/* Measures the rate in kHz against CLOCK_MONOTONIC_RAW: three times 5 ms, again (up to four times)
 * if they differ by more than 0.02 %. CPUID leaf 0x15 or the hypervisor's leaf 0x40000010 gives
 * the exact number where it agrees within 0.1 %. Needs no privilege; sleeps, so ask once at start.
 * 0; -EOPNOTSUPP when the counter stops or changes its rate (no invariant TSC), -EAGAIN when the
 * machine is too busy for samples that agree. */
int tsc_host_khz(uint32_t *ret_khz);
