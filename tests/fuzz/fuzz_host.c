/* Any packet as a request to the helper: what it allows is within its limits. */
#include "host/host_priv.h"
#include "host/wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define RUNTIME_DIR "/run/banger"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_allowed_launch(const struct host_launch *p)
{
    bool sandboxed = false;

    assert(strncmp(p->run_dir, RUNTIME_DIR "/vms/", sizeof(RUNTIME_DIR "/vms/") - 1) == 0);
    assert(!strchr(p->run_dir + sizeof(RUNTIME_DIR "/vms/") - 1, '/'));
    assert(p->vcpus <= HOST_VCPUS_MAX && p->memory_mib <= HOST_MEMORY_MIB_MAX);
    assert(p->fd_count < SPAWN_FDS_MAX);
    for (size_t i = 0; i < p->fd_count; i++) {
        assert(p->fds[i].as > 0 && p->fds[i].as < HOST_FD_MAX);
    }
    for (const char *const *arg = p->argv; *arg; arg++) {
        sandboxed |= strcmp(*arg, "-sandbox") == 0;
        assert(arg - p->argv < HOST_ARGS_MAX);
    }
    assert(sandboxed);
}

/* What was read is put together again the same. */
static void check_put_again(const struct wire_request *q, const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};
    int r = q->verb == WIRE_LAUNCH ? wire_put_launch(&b, &q->launch)
            : q->verb == WIRE_STATUS
                ? wire_put_status(&b)
                : wire_put_vmm(&b, q->verb, &q->process, q->run_dir, q->disk_bytes);

    assert(r == 0 && b.len == size && memcmp(buf_head(&b), data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_request q;
    int r;

    if (size > WIRE_REQUEST_MAX) {
        return 0;
    }
    r = wire_parse(data, size, &q);
    if (r < 0) {
        assert(r == -EPROTO);
        return 0;
    }
    check_put_again(&q, data, size);
    if (q.verb == WIRE_LAUNCH && !host_check_launch(&q.launch, RUNTIME_DIR)) {
        check_allowed_launch(&q.launch);
    }
    if (q.run_dir && q.verb != WIRE_LAUNCH &&
        !host_check_vmm(&q.process, q.run_dir, q.disk_bytes, RUNTIME_DIR)) {
        assert(q.process.pid > 1 && q.disk_bytes <= HOST_DISK_BYTES_MAX);
    }
    return 0;
}
