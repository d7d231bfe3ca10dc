/* Frames against bytes written down by hand: both ends of a link may be of different versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/frame.h"

#include <errno.h>

#define TRAILER_BYTES 0xE1, 0xC3, 0xA7, 0x5D

static void check_bytes(const struct buf *b, const uint8_t *want, size_t len)
{
    assert_int_equal(b->len, len);
    assert_memory_equal(buf_head(b), want, len);
}

static void frame_has_its_bytes(void **state)
{
    static const uint8_t want[] = {
        0xB5, 0x20, 1,    0,    0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16,          0x15,
        0x14, 0x13, 0x12, 0x11, 2,    0,    0,    0,    'h',  'i',  TRAILER_BYTES,
    };
    _cleanup_buf_ struct buf b;
    struct frame f = {
        .type = FRAME_DATA,
        .channel = FRAME_STDOUT,
        .stream = 0x01020304,
        .offset = 0x1112131415161718,
        .length = 2,
        .payload = (const uint8_t *)"hi",
    };
    struct frame got;

    (void)state;
    buf_init(&b, FRAME_MAX);
    assert_int_equal(frame_put(&b, &f), 0);
    check_bytes(&b, want, sizeof(want));
    assert_int_equal(frame_parse(want, sizeof(want), &got), sizeof(want));
    assert_int_equal(got.type, f.type);
    assert_int_equal(got.channel, f.channel);
    assert_int_equal(got.flags, 0);
    assert_int_equal(got.stream, f.stream);
    assert_true(got.offset == f.offset);
    assert_int_equal(got.length, 2);
    assert_ptr_equal(got.payload, want + FRAME_HEADER_SIZE);
    for (size_t len = 0; len < sizeof(want); len++) {
        assert_int_equal(frame_parse(want, len, &got), 0);
    }
}

static void a_frame_sealed_around_its_payload_is_the_same(void **state)
{
    _cleanup_buf_ struct buf b;
    uint8_t place[FRAME_HEADER_SIZE + 5 + FRAME_TRAILER_SIZE] = {0};
    struct frame f = {
        .type = FRAME_DATA,
        .channel = FRAME_STDERR,
        .stream = 0xF1020304,
        .offset = 0xF112131415161718,
        .length = 5,
        .payload = (const uint8_t *)"hello",
    };

    (void)state;
    buf_init(&b, FRAME_MAX);
    assert_int_equal(frame_put(&b, &f), 0);
    memcpy(place + FRAME_HEADER_SIZE, "hello", 5);
    frame_seal(place, &f);
    check_bytes(&b, place, sizeof(place));
}

static void short_forms_have_their_bytes(void **state)
{
    static const uint8_t signal_frame[] = {
        0xB5, 17, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 15, 0, 0, 0, TRAILER_BYTES,
    };
    static const uint8_t window[] = {
        0xB5,
        34,
        2,
        0,
        7,
        0,
        0,
        0,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        8,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        TRAILER_BYTES,
    };
    static const uint8_t hello[] = {
        0xB5,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        20,
        0,
        0,
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        16,
        1,
        0,
        FRAME_PROTO_MAX,
        0,
        TRAILER_BYTES,
    };
    _cleanup_buf_ struct buf b;

    (void)state;
    buf_init(&b, FRAME_MAX);
    assert_int_equal(frame_put_u32(&b, FRAME_SIGNAL, 7, 15), 0);
    check_bytes(&b, signal_frame, sizeof(signal_frame));
    buf_consume(&b, b.len);
    assert_int_equal(frame_put_window(&b, 7, FRAME_STDERR, 257, 1 << 24), 0);
    check_bytes(&b, window, sizeof(window));
    buf_consume(&b, b.len);
    assert_int_equal(frame_put_hello(&b, hello + FRAME_HEADER_SIZE), 0);
    check_bytes(&b, hello, sizeof(hello));
}

static void bad_headers_are_refused_and_unknown_types_are_not(void **state)
{
    uint8_t bytes[24] = {0xB5, 99, [20] = TRAILER_BYTES};
    struct frame f;

    (void)state;
    assert_int_equal(frame_parse(bytes, sizeof(bytes), &f), 24);
    bytes[0] = 0xB4;
    assert_int_equal(frame_parse(bytes, 1, &f), -EPROTO);
    bytes[0] = 0xB5;
    bytes[2] = FRAME_CHANNELS;
    assert_int_equal(frame_parse(bytes, sizeof(bytes), &f), -EPROTO);
    bytes[2] = 0;
    bytes[3] = 2;
    assert_int_equal(frame_parse(bytes, sizeof(bytes), &f), -EPROTO);
    bytes[3] = FRAME_MORE;
    assert_int_equal(frame_parse(bytes, sizeof(bytes), &f), 24);
    bytes[23] ^= 1;
    assert_int_equal(frame_parse(bytes, sizeof(bytes), &f), -EBADMSG);
    assert_int_equal(f.length, 0);
    for (uint32_t length = FRAME_PAYLOAD_MAX; length <= FRAME_PAYLOAD_MAX + 1; length++) {
        bytes[16] = (uint8_t)length;
        bytes[17] = (uint8_t)(length >> 8);
        assert_int_equal(frame_parse(bytes, sizeof(bytes), &f),
                         length > FRAME_PAYLOAD_MAX ? -EPROTO : 0);
    }
    bytes[16] = bytes[17] = 0;
    bytes[19] = 0x80;
    assert_int_equal(frame_parse(bytes, sizeof(bytes), &f), -EPROTO);
}

static void a_full_buffer_takes_no_part_of_a_frame(void **state)
{
    _cleanup_buf_ struct buf b;
    struct frame f = {.type = FRAME_PING, .length = 8, .payload = (const uint8_t *)"12345678"};

    (void)state;
    buf_init(&b, frame_size(8) + frame_size(8) - 1);
    assert_int_equal(frame_put(&b, &f), 0);
    assert_int_equal(frame_put(&b, &f), -ENOBUFS);
    assert_int_equal(b.len, frame_size(8));
    assert_int_equal(frame_put_resync(&b), -ENOBUFS);
    assert_int_equal(b.len, frame_size(8));
}

static void a_body_is_cut_into_frames(void **state)
{
    static uint8_t body[2 * FRAME_PAYLOAD_MAX + 5];
    static const size_t sizes[] = {0, 1, FRAME_PAYLOAD_MAX, FRAME_PAYLOAD_MAX + 1, sizeof(body)};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        _cleanup_buf_ struct buf b;
        size_t total = 0, frames = 0;
        struct frame f = {.flags = FRAME_MORE};

        buf_init(&b, sizeof(body) + 1024);
        assert_int_equal(frame_put_body(&b, FRAME_EXEC, 3, body, sizes[i]), 0);
        while (b.len > 0) {
            int n = frame_parse(buf_head(&b), b.len, &f);

            assert_true(n > 0);
            assert_int_equal(f.flags, (size_t)n < b.len ? FRAME_MORE : 0);
            total += f.length;
            frames++;
            buf_consume(&b, (size_t)n);
        }
        assert_int_equal(total, sizes[i]);
        assert_int_equal(frames, sizes[i] == 0 ? 1 : (sizes[i] - 1) / FRAME_PAYLOAD_MAX + 1);
    }
}

static void readers_stop_at_the_end(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct frame_reader r = {.p = bytes, .left = sizeof(bytes)};
    const uint8_t *p = NULL;
    uint64_t u64 = 0;
    uint32_t u32 = 0;
    uint16_t u16 = 0;
    uint8_t u8 = 0;

    (void)state;
    assert_int_equal(frame_take_u8(&r, &u8), 0);
    assert_int_equal(frame_take_u16(&r, &u16), 0);
    assert_int_equal(frame_take_u32(&r, &u32), 0);
    assert_int_equal(frame_take_u64(&r, &u64), 0);
    assert_int_equal(u8, 1);
    assert_int_equal(u16, 0x0302);
    assert_int_equal(u32, 0x07060504);
    assert_true(u64 == 0x0F0E0D0C0B0A0908);
    assert_int_equal(frame_take_u8(&r, &u8), -EPROTO);
    r.left = 7;
    assert_int_equal(frame_take_u64(&r, &u64), -EPROTO);
    assert_int_equal(r.left, 7);
    assert_int_equal(frame_take_bytes(&r, 8, &p), -EPROTO);
    assert_null(p);
}

static void tlvs_are_taken_whole(void **state)
{
    static const uint8_t bytes[] = {1, 2, 0, 0, 0, 'a', 'b', 9, 0, 0, 0, 0, 3, 2, 0, 0, 0, 'x'};
    struct frame_reader r = {.p = bytes, .left = sizeof(bytes)};
    const uint8_t *value;
    uint32_t len;
    uint8_t tag;

    (void)state;
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, 1);
    assert_int_equal(len, 2);
    assert_memory_equal(value, "ab", 2);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, 9);
    assert_int_equal(len, 0);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), -EPROTO);
    assert_int_equal(r.left, 6);
    r.left = 0;
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 0);
}

static void a_network_has_its_bytes_and_no_other_number_of_them(void **state)
{
    static const uint8_t wire[5 + FRAME_NETWORK_SIZE] = {
        22, 38, 0, 0, 0, 10, 201, 1, 7,    10, 201, 0, 1, 0xfd, 0,    2,  1, 0, 0, 0,    0, 0,
        0,  0,  0, 0, 0, 1,  7,   2, 0xba, 23, 0,   0, 2, 2,    0xba, 23, 0, 0, 1, 0xdc, 5};
    struct frame_network network = {.ipv4 = {10, 201, 1, 7},
                                    .gateway4 = {10, 201, 0, 1},
                                    .ipv6 = {0xfd, 0, 2, 1, [14] = 1, 7},
                                    .mac = {2, 0xba, 23, 0, 0, 2},
                                    .gateway_mac = {2, 0xba, 23, 0, 0, 1},
                                    .mtu = 1500},
                         taken;
    struct buf out;

    (void)state;
    buf_init(&out, sizeof(wire) - 1);
    assert_int_equal(frame_put_network(&out, &network), -ENOBUFS);
    assert_int_equal(out.len, 0);
    buf_done(&out);
    buf_init(&out, sizeof(wire));
    assert_int_equal(frame_put_network(&out, &network), 0);
    assert_int_equal(out.len, sizeof(wire));
    assert_memory_equal(buf_head(&out), wire, sizeof(wire));
    memset(&taken, 0x55, sizeof(taken));
    assert_int_equal(frame_take_network(wire + 5, FRAME_NETWORK_SIZE - 1, &taken), -EPROTO);
    assert_int_equal(frame_take_network(wire + 5, FRAME_NETWORK_SIZE + 1, &taken), -EPROTO);
    assert_int_equal(frame_take_network(wire + 5, 0, &taken), -EPROTO);
    assert_int_equal(taken.mtu, 0x5555);
    assert_int_equal(frame_take_network(wire + 5, FRAME_NETWORK_SIZE, &taken), 0);
    assert_memory_equal(&taken, &network, sizeof(network));
    buf_done(&out);
}

static void scan_finds_a_hello_and_what_may_become_one(void **state)
{
    static const uint8_t nonce[FRAME_NONCE_SIZE] = {0xB5, 1};
    _cleanup_buf_ struct buf b;
    size_t at;

    (void)state;
    buf_init(&b, 2 * FRAME_MAX);
    assert_int_equal(frame_put_u32(&b, FRAME_HELLO, 1, 0), 0); /* a stream: no HELLO */
    assert_int_equal(frame_put_u32(&b, FRAME_HELLO, 0, 0), 0); /* too short for one */
    at = b.len;
    assert_int_equal(frame_put_hello(&b, nonce), 0);
    assert_int_equal(frame_scan(buf_head(&b), b.len, FRAME_HELLO), at);
    assert_int_equal(frame_scan(buf_head(&b), b.len, FRAME_HELLO_OK), b.len);
    for (size_t cut = 1; cut < b.len - at; cut++) {
        assert_int_equal(frame_scan(buf_head(&b), b.len - cut, FRAME_HELLO), at);
    }
    assert_int_equal(frame_scan(buf_head(&b), 0, FRAME_HELLO), 0);
}

static void zeros_end_any_half_frame(void **state)
{
    static const uint8_t nonce[FRAME_NONCE_SIZE] = {1};
    static const uint8_t payload[FRAME_PAYLOAD_MAX];
    struct frame whole = {
        .type = FRAME_DATA, .stream = 1, .payload = payload, .length = sizeof(payload)};

    (void)state;
    for (size_t kept = 1; kept < FRAME_MAX; kept += kept < 30 ? 1 : 509) {
        _cleanup_buf_ struct buf b;
        struct frame f;
        int n;

        buf_init(&b, 4 * FRAME_MAX);
        assert_int_equal(frame_put(&b, &whole), 0);
        b.len = kept;
        assert_int_equal(frame_put_resync(&b), 0);
        assert_int_equal(frame_put_hello(&b, nonce), 0);
        n = frame_parse(buf_head(&b), b.len, &f);
        assert_int_equal(n, -EBADMSG);
        buf_consume(&b, frame_size(f.length));
        buf_consume(&b, frame_scan(buf_head(&b), b.len, FRAME_HELLO));
        assert_int_equal(frame_parse(buf_head(&b), b.len, &f), b.len);
        assert_int_equal(f.type, FRAME_HELLO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_has_its_bytes),
        cmocka_unit_test(a_frame_sealed_around_its_payload_is_the_same),
        cmocka_unit_test(short_forms_have_their_bytes),
        cmocka_unit_test(bad_headers_are_refused_and_unknown_types_are_not),
        cmocka_unit_test(a_full_buffer_takes_no_part_of_a_frame),
        cmocka_unit_test(a_body_is_cut_into_frames),
        cmocka_unit_test(readers_stop_at_the_end),
        cmocka_unit_test(tlvs_are_taken_whole),
        cmocka_unit_test(a_network_has_its_bytes_and_no_other_number_of_them),
        cmocka_unit_test(scan_finds_a_hello_and_what_may_become_one),
        cmocka_unit_test(zeros_end_any_half_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
