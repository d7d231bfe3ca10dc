#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net_site.h"

#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>

const struct host_subnet site_subnet = {
    .ipv4 = 0x0AC90000, .ipv4_bits = 16, .ipv6 = {0xfd, 0, 2, 1}};

struct host_nic site_nic(unsigned tap, unsigned number, bool nat)
{
    return (struct host_nic){.tap = tap,
                             .ipv4 = site_subnet.ipv4 + number,
                             .ipv6 = {0xfd, 0, 2, 1, [15] = (uint8_t)number},
                             .nat = nat};
}

struct host *site_host(const struct site *w)
{
    return host_local_new(&(struct host_local_params){
        .launcher = "/none", .name = w->scratch.path, .cgroup_root = w->scratch.path});
}

bool site_init(struct site *w, bool uplink)
{
    const char *lacks = net_fixture_lacks();

    if (lacks) {
        print_message("skipped: %s\n", lacks);
        return false;
    }
    net_fixture_enter(uplink);
    w->scratch = scratch_new();
    w->host = site_host(w);
    return true;
}

void site_done(struct site *w)
{
    host_free(w->host);
    scratch_done(&w->scratch);
}

void must(int r, const struct err *err)
{
    if (r < 0) {
        fail_msg("%s", err->message);
    }
}

void site_open(struct site *w)
{
    struct err err;

    must(host_net_open(w->host, &site_subnet, &w->mtu, &err), &err);
}

void site_close(struct site *w)
{
    struct err err;

    must(host_net_close(w->host, &err), &err);
}

int site_tap(struct site *w, unsigned tap)
{
    struct err err;
    int fd = -1;

    must(host_tap_open(w->host, tap, &fd, &err), &err);
    return fd;
}

void site_attach(struct site *w, unsigned tap, unsigned number, bool nat)
{
    struct host_nic n = site_nic(tap, number, nat);
    struct err err;

    must(host_nic_attach(w->host, &n, &err), &err);
}

void site_detach(struct site *w, unsigned tap, unsigned number)
{
    struct host_nic n = site_nic(tap, number, false);
    struct err err;

    must(host_nic_detach(w->host, &n, &err), &err);
}

void assert_taps(struct site *w, const char *expected)
{
    _cleanup_buf_ struct buf text = {.max = 4096};
    _cleanup_free_ unsigned *taps = NULL;
    struct err err;
    size_t count;

    must(host_tap_list(w->host, &taps, &count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(buf_printf(&text, "%u ", taps[i]), 0);
    }
    assert_int_equal(buf_append_u8(&text, 0), 0);
    assert_string_equal((const char *)buf_head(&text), expected);
}

void assert_switch(const char *path, const char *expected)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[16] = "";

    assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
    (void)close(fd);
    assert_string_equal(text, expected);
}
