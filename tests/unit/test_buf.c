/* The byte buffer: its maximum, its order, its file descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

static void no_more_than_the_maximum_is_held(void **state)
{
    _cleanup_buf_ struct buf b;

    (void)state;
    buf_init(&b, 10);
    assert_null(buf_head(&b));
    assert_int_equal(buf_append(&b, "12345678", 8), 0);
    assert_int_equal(buf_room(&b), 2);
    assert_int_equal(buf_append(&b, "abc", 3), -ENOBUFS);
    assert_int_equal(buf_append_le32(&b, 1), -ENOBUFS);
    assert_int_equal(buf_append_str(&b, "abc"), -ENOBUFS);
    assert_int_equal(buf_printf(&b, "%d", 123), -ENOBUFS);
    assert_null(buf_reserve(&b, 3));
    assert_int_equal(b.len, 8); /* nothing of what failed */
    assert_int_equal(buf_append(&b, "ab", 2), 0);
    assert_int_equal(buf_append(&b, NULL, 0), 0);
    buf_consume(&b, 5);
    assert_int_equal(buf_append(&b, "vwxyz", 5), 0);
    assert_memory_equal(buf_head(&b), "678abvwxyz", 10);
}

static void bytes_keep_their_order(void **state)
{
    _cleanup_buf_ struct buf b;
    uint8_t in = 0, out = 0;
    unsigned seed = 1;

    (void)state;
    buf_init(&b, 5000);
    for (int round = 0; round < 20000; round++) {
        size_t n = ((seed = seed * 1103515245 + 12345) >> 16) % 300;

        if (seed & 0x80000000U) {
            uint8_t bytes[300];

            n = n < buf_room(&b) ? n : buf_room(&b);
            for (size_t i = 0; i < n; i++) {
                bytes[i] = in++;
            }
            assert_int_equal(buf_append(&b, bytes, n), 0);
        } else {
            n = n < b.len ? n : b.len;
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(buf_head(&b)[i], out++);
            }
            buf_consume(&b, n);
        }
    }
}

static void numbers_are_little_endian(void **state)
{
    _cleanup_buf_ struct buf b;

    (void)state;
    buf_init(&b, 100);
    assert_int_equal(buf_append_u8(&b, 0x01), 0);
    assert_int_equal(buf_append_le16(&b, 0x0302), 0);
    assert_int_equal(buf_append_le32(&b, 0x07060504), 0);
    assert_int_equal(buf_append_le64(&b, 0x0f0e0d0c0b0a0908), 0);
    for (uint8_t i = 0; i < 15; i++) {
        assert_int_equal(buf_head(&b)[i], i + 1);
    }
}

static void text_can_be_taken_out(void **state)
{
    struct buf b;
    char *s;

    (void)state;
    buf_init(&b, 3);
    s = buf_steal_str(&b);
    assert_string_equal(s, "");
    free(s);
    buf_init(&b, 3);
    assert_int_equal(buf_append_str(&b, "abc"), 0);
    s = buf_steal_str(&b); /* full: the NUL finds room all the same */
    assert_string_equal(s, "abc");
    assert_int_equal(b.len, 0);
    free(s);
    buf_done(&b);
    buf_init(&b, 100);
    assert_int_equal(buf_printf(&b, "%d-%s", 7, "x"), 0);
    assert_int_equal(b.len, 3);
    buf_done(&b);
}

static void an_idle_buffer_gives_its_memory_back(void **state)
{
    _cleanup_buf_ struct buf b;
    static uint8_t bytes[200000];

    (void)state;
    buf_init(&b, sizeof(bytes));
    assert_int_equal(buf_append(&b, bytes, sizeof(bytes)), 0);
    buf_consume(&b, sizeof(bytes));
    assert_int_equal(b.capacity, 0);
    assert_int_equal(buf_append(&b, bytes, 10), 0);
}

static void descriptors_are_read_and_written(void **state)
{
    _cleanup_buf_ struct buf b, c;
    int fds[2], pipes[2];

    (void)state;
    buf_init(&b, 10);
    buf_init(&c, 4);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(buf_read_fd(&c, fds[1], 100), -EAGAIN);
    assert_int_equal(buf_write_fd(&b, fds[0]), 0);
    assert_int_equal(buf_append_str(&b, "0123456789"), 0);
    assert_int_equal(buf_write_fd(&b, fds[0]), 10);
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_read_fd(&c, fds[1], 3), 3);
    assert_int_equal(buf_read_fd(&c, fds[1], 100), 1); /* what fits */
    assert_int_equal(buf_read_fd(&c, fds[1], 100), -ENOBUFS);
    assert_memory_equal(buf_head(&c), "0123", 4);
    assert_int_equal(buf_write_fd(&c, pipes[1]), 4); /* no socket */
    assert_int_equal(buf_read_fd(&c, pipes[0], 100), 4);
    (void)close(fds[1]);
    assert_int_equal(buf_write_fd(&c, fds[0]), -EPIPE); /* and no signal */
    assert_int_equal(c.len, 4);
    (void)close(pipes[1]);
    assert_int_equal(buf_read_fd(&b, pipes[0], 100), 0);
    (void)close(pipes[0]);
    (void)close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_than_the_maximum_is_held),
        cmocka_unit_test(bytes_keep_their_order),
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(text_can_be_taken_out),
        cmocka_unit_test(an_idle_buffer_gives_its_memory_back),
        cmocka_unit_test(descriptors_are_read_and_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
