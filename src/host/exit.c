#include "host/host.h"
#include "host/wire.h"

#include <unistd.h>

bool host_take_exit(int exit_fd, struct vmm_exit *ret_exit)
{
    struct wire_exit exit;

    if (read(exit_fd, &exit, sizeof(exit)) != (ssize_t)sizeof(exit)) {
        return false;
    }
    *ret_exit = (struct vmm_exit){.code = exit.code, .signal = exit.signal};
    return true;
}
