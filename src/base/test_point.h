/*
 * Places at which tests make this process die, or make a call fail. They are compiled in with
 * -Dtests=true (build-asan, build-tsan) and leave nothing behind in the programs that users get.
 *
 *   BANGER_CRASH_AT=NAME[:N]  the process is killed, as by `kill -9`, when it comes to NAME for the
 *                             N-th time (the first, without N); "?" only tells which it passes
 *   BANGER_FAULTS=FILE        FILE holds "NAME N ERRNO": the N-th time from now on that the process
 *                             comes to NAME, the call fails with that error number; with "N+" so
 *                             do all that follow. NAME is several with commas, or a beginning with
 *                             "*" ("*": any). The file may be rewritten at any time (the count
 *                             begins anew); an empty one means nothing fails.
 *   BANGER_BOOT_ID=TEXT       what the kernel's boot id is taken for: a reboot of the host
 *
 * Both tell the log. docs/HACKING.md lists what tests do with them. Threads: any.
 */
#pragma once

#ifdef BANGER_TEST_POINTS
/* name is a literal, unique in the sources: the tests collect them from there. */
void test_point_crash(const char *name);
int test_point_fault(const char *name);
const char *test_point_boot_id(void);
#define CRASH_POINT(name) test_point_crash(name)
#define FAULT_POINT(name) test_point_fault(name)
#define TEST_BOOT_ID() test_point_boot_id()
#else
/* A daemon that dies here leaves a state that the next one must mend. */
#define CRASH_POINT(name) ((void)0)
/* 0, or -errno: what stands behind it has failed. */
#define FAULT_POINT(name) 0
/* NULL, or what to take for the kernel's boot id. */
#define TEST_BOOT_ID() ((const char *)0)
#endif
