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

static int put_again(struct buf *b, const struct wire_request *q)
{
    switch (q->verb) {
    case WIRE_LAUNCH:
        return wire_put_launch(b, &q->launch);
    case WIRE_NET_OPEN:
        return wire_put_subnet(b, &q->subnet);
    case WIRE_TAP_OPEN:
    case WIRE_TAP_DELETE:
        return wire_put_taps(b, q->verb, q->taps, q->tap_count);
    case WIRE_NIC_ATTACH:
    case WIRE_NIC_DETACH:
        return wire_put_nic(b, q->verb, &q->nic);
    default:
        return q->run_dir ? wire_put_vmm(b, q->verb, &q->process, q->run_dir, q->disk_bytes)
                          : wire_put_plain(b, q->verb);
    }
}

/* What was read is put together again the same. */
static void check_put_again(const struct wire_request *q, const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf b = {.max = WIRE_REQUEST_MAX};

    assert(put_again(&b, q) == 0 && b.len == size && memcmp(buf_head(&b), data, size) == 0);
}

/* A subnet that is allowed is of private addresses, and a guest of it is neither the gateway nor
 * all. */
static void check_networks(const struct wire_request *q)
{
    const struct host_subnet s = {.ipv4 = 0x0AC90000, .ipv4_bits = 16, .ipv6 = {0xfd, 0, 2, 1}};
    unsigned top = q->subnet.ipv4 >> 24;

    if (q->verb == WIRE_NET_OPEN && !host_check_subnet(&q->subnet)) {
        assert(top == 10 || top == 172 || top == 192 || top == 100);
        assert(q->subnet.ipv4_bits >= 8 && q->subnet.ipv4_bits <= 24 && q->subnet.ipv6[0] == 0xfd);
    }
    if (q->run_dir == NULL && !host_check_nic(&q->nic, &s)) {
        assert(q->nic.tap < HOST_TAPS_MAX && q->nic.ipv4 > 0x0AC90001 && q->nic.ipv4 < 0x0AC9FFFF);
        assert(memcmp(q->nic.ipv6, s.ipv6, 8) == 0);
    }
    assert(q->tap_count <= HOST_TAPS_AT_ONCE);
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
    check_networks(&q);
    if (q.verb == WIRE_LAUNCH && !host_check_launch(&q.launch, RUNTIME_DIR)) {
        check_allowed_launch(&q.launch);
    }
    if (q.run_dir && q.verb != WIRE_LAUNCH &&
        !host_check_vmm(&q.process, q.run_dir, q.disk_bytes, RUNTIME_DIR)) {
        assert(q.process.pid > 1 && q.disk_bytes <= HOST_DISK_BYTES_MAX);
    }
    return 0;
}
