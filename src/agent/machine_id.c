#include "agent/machine_id.h"

#include "agent/replace.h"
#include "base/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PATH "/etc/machine-id"

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

int machine_id_set(const char id[MACHINE_ID_LEN + 1])
{
    char now[MACHINE_ID_LEN + 1], line[MACHINE_ID_LEN + 1];

    if (machine_id_get(now) == 0 && strcmp(now, id) == 0) {
        return 0;
    }
    memcpy(line, id, MACHINE_ID_LEN);
    line[MACHINE_ID_LEN] = '\n';
    return replace_file(PATH, line, sizeof(line), 0444);
}
