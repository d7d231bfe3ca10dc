#include "agent/machine_id.h"

#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH "/etc/machine-id"
#define NEW_PATH PATH ".banger"

bool machine_id_valid(const uint8_t *id, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!(id[i] >= '0' && id[i] <= '9') && !(id[i] >= 'a' && id[i] <= 'f')) {
            return false;
        }
    }
    return len == MACHINE_ID_LEN;
}

int machine_id_get(char ret_id[MACHINE_ID_LEN + 1])
{
    _cleanup_close_ int fd = open(PATH, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret_id, MACHINE_ID_LEN);

    ret_id[n < 0 ? 0 : n] = 0;
    if (n < 0) {
        return -errno;
    }
    return machine_id_valid((const uint8_t *)ret_id, (size_t)n) ? 0 : -ENODATA;
}

/* Over another id, which is as long: a fork has its template's, and in a guest that was just
 * restored each step of making a file is one for the first time. */
static bool write_over(const char line[MACHINE_ID_LEN + 1])
{
    _cleanup_close_ int fd = open(PATH, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
           st.st_size == MACHINE_ID_LEN + 1 &&
           write(fd, line, MACHINE_ID_LEN + 1) == MACHINE_ID_LEN + 1;
}

int machine_id_set(const char id[MACHINE_ID_LEN + 1])
{
    _cleanup_close_ int fd = -1;
    char now[MACHINE_ID_LEN + 1], line[MACHINE_ID_LEN + 1];

    if (machine_id_get(now) == 0 && strcmp(now, id) == 0) {
        return 0;
    }
    memcpy(line, id, MACHINE_ID_LEN);
    line[MACHINE_ID_LEN] = '\n';
    if (write_over(line)) {
        return 0;
    }
    fd = open(NEW_PATH, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0444);
    if (fd < 0 || fchmod(fd, 0444) < 0 || write(fd, line, sizeof(line)) != (ssize_t)sizeof(line) ||
        rename(NEW_PATH, PATH) < 0) {
        int error = errno;

        (void)unlink(NEW_PATH);
        return -error;
    }
    return 0;
}
