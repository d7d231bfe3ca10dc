/* Parts of the guest agent that need no guest: names, users, the output ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/hostname.h"
#include "agent/ring.h"
#include "agent/user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static void check_hosts(const char *old, const char *name, const char *want)
{
    _cleanup_free_ char *got = hostname_hosts(old, name);

    if (want) {
        assert_string_equal(got, want);
    } else {
        assert_null(got);
    }
}

static void hosts_gets_one_line_for_the_name(void **state)
{
    (void)state;
    check_hosts("", "vm", "127.0.1.1\tvm\n");
    check_hosts("::1 localhost", "vm", "::1 localhost\n127.0.1.1\tvm\n");
    check_hosts("127.0.1.1 old\n127.0.1.10 x\n# vm\n", "vm", "127.0.1.10 x\n# vm\n127.0.1.1\tvm\n");
    check_hosts("10.0.0.1 a\tvm b\n", "vm", NULL);
    check_hosts("10.0.0.1 a vm\n", "vm", NULL);
    check_hosts("vm a # vm\n", "vm", "vm a # vm\n127.0.1.1\tvm\n");
}

static void hostnames_are_dns_names(void **state)
{
    static const char *const good[] = {"a", "vm-1", "A.b-c.d", "0"};
    static const char *const bad[] = {"",     "-a",   "a-",  ".a",  "a.",      "a..b",
                                      "a.-b", "a-.b", "a b", "a/b", "\xc3\xa9"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(hostname_valid((const uint8_t *)good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(hostname_valid((const uint8_t *)bad[i], strlen(bad[i])));
    }
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    _cleanup_close_ int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void users_come_from_the_files(void **state)
{
    char dir[] = "/tmp/banger-test-XXXXXX";
    const char *unknown;
    struct user u;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(user_find(&u, "root", dir, &unknown), 0); /* no files at all */
    assert_int_equal(u.uid, 0);
    assert_string_equal(u.home, "/");
    assert_string_equal(u.shell, "/bin/sh");
    write_file(dir, "passwd",
               "root:x:0:0::/root:/bin/bash\nnonsense\n:x:::::\n"
               "ann:x:1000:100:Ann:/home/ann:\n1000:x:7:7::/seven:/bin/sh\n");
    write_file(dir, "group", "users:x:100:\nwheel:x:10:root,ann\nx:x:11:annie\nann:x:100:ann\n");
    assert_int_equal(user_find(&u, "ann", dir, &unknown), 0);
    assert_int_equal(u.uid, 1000);
    assert_int_equal(u.gid, 100);
    assert_int_equal(u.group_count, 2);
    assert_int_equal(u.groups[1], 10);
    assert_string_equal(u.shell, "/bin/sh");
    assert_int_equal(user_find(&u, "1000", dir, &unknown), 0); /* a name wins over a number */
    assert_int_equal(u.uid, 7);
    assert_int_equal(user_find(&u, "ann:wheel", dir, &unknown), 0);
    assert_int_equal(u.gid, 10);
    assert_int_equal(u.group_count, 1);
    assert_int_equal(user_find(&u, "4000:5", dir, &unknown), 0);
    assert_int_equal(u.uid, 4000);
    assert_int_equal(u.gid, 5);
    assert_string_equal(u.name, "");
    assert_int_equal(user_find(&u, "bob", dir, &unknown), -ENOENT);
    assert_string_equal(unknown, "user");
    assert_int_equal(user_find(&u, "ann:bob", dir, &unknown), -ENOENT);
    assert_string_equal(unknown, "group");
    assert_int_equal(user_find(&u, "4294967295", dir, &unknown), -ENOENT);
    {
        _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        (void)unlinkat(fd, "passwd", 0);
        (void)unlinkat(fd, "group", 0);
        assert_int_equal(rmdir(dir), 0);
    }
}

static void ring_keeps_every_byte_at_its_offset(void **state)
{
    struct ring_pool pool = {0};
    struct ring r;
    int fds[2];
    uint8_t next = 0;
    unsigned seed = 1;
    bool empty;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    ring_init(&r, &pool);
    for (int round = 0; round < 3000; round++) {
        uint8_t bytes[5000];
        const uint8_t *p;
        size_t n, len = (seed = seed * 1103515245 + 12345) >> 16;

        len %= sizeof(bytes);
        for (size_t i = 0; i < len; i++) {
            bytes[i] = next++;
        }
        assert_int_equal(write(fds[1], bytes, len), len);
        for (size_t left = len; left > 0;) {
            ssize_t got = ring_read_fd(&r, fds[0], left, &empty);

            if (got == -ENOBUFS) {
                ring_drop(&r, r.start + (r.end - r.start) / 2 + 1);
                continue;
            }
            assert_true(got > 0);
            left -= (size_t)got;
        }
        for (uint64_t at = r.start; at < r.end; at += n) {
            n = ring_peek(&r, at, &p);
            assert_true(n > 0);
            assert_int_equal(p[0], (uint8_t)at);
            assert_int_equal(p[n - 1], (uint8_t)(at + n - 1));
        }
    }
    assert_int_equal(pool.allocated, RING_MAX);
    assert_int_equal(ring_read_fd(&r, fds[0], 1, &empty) < 0, 1);
    ring_done(&r);
    assert_int_equal(pool.allocated, 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Without a pipe's limit. */
static void fill_ring(struct ring *r, size_t most)
{
    _cleanup_close_ int fd = memfd_create("ring", MFD_CLOEXEC);
    bool empty = false;

    for (size_t i = 0; i < most; i += 4) {
        uint32_t word = (uint32_t)(i / 4);

        assert_int_equal(pwrite(fd, &word, 4, (off_t)i), 4);
    }
    while (!empty && ring_read_fd(r, fd, most, &empty) > 0) {
    }
}

static void ring_sends_whole_pieces_from_where_they_lie(void **state)
{
    struct ring_pool pool = {0};
    uint64_t offset = 0;
    unsigned whole = 0;
    uint8_t *before = NULL;
    struct ring r;

    (void)state;
    ring_init(&r, &pool);
    assert_null(ring_frame(&r, 0));
    fill_ring(&r, 10 * FRAME_PAYLOAD_MAX + 100);
    assert_int_equal(r.end, 10 * FRAME_PAYLOAD_MAX + 100);
    assert_null(ring_frame(&r, 1));
    /* Twice, for the next host. */
    for (int host = 0; host < 2; host++) {
        for (offset = 0, before = NULL, whole = 0; r.end - offset >= FRAME_PAYLOAD_MAX;
             offset += FRAME_PAYLOAD_MAX) {
            uint8_t *place = ring_frame(&r, offset);
            struct frame f = {.type = FRAME_DATA, .stream = 3, .length = FRAME_PAYLOAD_MAX};
            struct frame got;

            assert_non_null(place);
            whole += before && place == before + FRAME_MAX;
            before = place;
            f.offset = offset;
            frame_seal(place, &f);
            assert_int_equal(frame_parse(place, FRAME_MAX, &got), FRAME_MAX);
            assert_int_equal(got.offset, offset);
            for (size_t i = 0; i < got.length; i += 4) {
                uint32_t word;

                memcpy(&word, got.payload + i, 4);
                assert_int_equal(word, (uint32_t)((offset + i) / 4));
            }
        }
    }
    assert_true(whole >= 8);             /* side by side, but where the ring begins again */
    assert_null(ring_frame(&r, offset)); /* not a whole one */
    ring_done(&r);
}

static void a_ring_short_of_memory_holds_what_is_acknowledged_when_no_more_comes(void **state)
{
    struct ring_pool pool = {.allocated = RING_POOL_MAX};
    struct ring r;

    (void)state;
    ring_init(&r, &pool);
    fill_ring(&r, RING_MAX);
    assert_int_equal(pool.allocated, RING_POOL_MAX + RING_SMALL);
    assert_true(r.end >= FRAME_ACK_EVERY && r.end < RING_SMALL);
    ring_done(&r);
    assert_int_equal(pool.allocated, RING_POOL_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_gets_one_line_for_the_name),
        cmocka_unit_test(hostnames_are_dns_names),
        cmocka_unit_test(users_come_from_the_files),
        cmocka_unit_test(ring_keeps_every_byte_at_its_offset),
        cmocka_unit_test(ring_sends_whole_pieces_from_where_they_lie),
        cmocka_unit_test(a_ring_short_of_memory_holds_what_is_acknowledged_when_no_more_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
