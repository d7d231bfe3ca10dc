#include "sys/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CAPABILITIES_MAX 64

/* libc has no wrapper, and two system calls need no library. */
static int set_sets(uint64_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, sets) < 0) {
        return -errno;
    }
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        sets[i].permitted &= (uint32_t)(keep >> (32 * i));
        sets[i].effective = sets[i].permitted;
        sets[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

static uint64_t mask_of(const int *capabilities, size_t count)
{
    uint64_t mask = 0;

    for (size_t i = 0; i < count; i++) {
        mask |= 1ULL << capabilities[i];
    }
    return mask;
}

int privileges_bound(const int *capabilities, size_t count)
{
    uint64_t keep = mask_of(capabilities, count);

    for (int cap = 0; cap < CAPABILITIES_MAX; cap++) {
        if (!(keep & (1ULL << cap)) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            return -errno;
        }
    }
    return 0;
}

int privileges_set(const int *capabilities, size_t count)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return -errno;
    }
    return set_sets(mask_of(capabilities, count));
}

bool privileges_has(int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    return syscall(SYS_capget, &header, sets) == 0 &&
           (sets[capability / 32].effective & (1U << (capability % 32)));
}
