/* Any bytes through the frame parser and the readers: what parses is put together again the same.
 */
#include "codec/frame.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_payload(const struct frame *f)
{
    struct frame_reader r = frame_reader(f);
    const uint8_t *value;
    uint32_t len, u32;
    uint64_t u64;
    uint16_t u16;
    uint8_t tag, u8;
    int n;

    while ((n = frame_take_tlv(&r, &tag, &value, &len)) > 0) {
        assert(value + len <= f->payload + f->length);
    }
    assert(n == 0 || n == -EPROTO);
    r = frame_reader(f);
    while (frame_take_u8(&r, &u8) == 0 && frame_take_u16(&r, &u16) == 0 &&
           frame_take_u32(&r, &u32) == 0 && frame_take_u64(&r, &u64) == 0) {
    }
    assert(r.left < f->length || f->length == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf out;
    size_t at = 0;

    buf_init(&out, FRAME_MAX);
    while (at < size) {
        struct frame f;
        int n = frame_parse(data + at, size - at, &f);

        if (n == 0) {
            break;
        }
        if (n < 0) {
            size_t skip = frame_scan(data + at, size - at, FRAME_HELLO);

            assert(skip <= size - at);
            assert(frame_scan(data + at + skip, size - at - skip, FRAME_HELLO) == 0);
            at += skip > 0 ? skip : 1;
            continue;
        }
        assert((size_t)n == frame_size(f.length) && (size_t)n <= FRAME_MAX);
        read_payload(&f);
        assert(frame_put(&out, &f) == 0);
        assert(out.len == (size_t)n && memcmp(buf_head(&out), data + at, (size_t)n) == 0);
        buf_consume(&out, out.len);
        at += (size_t)n;
    }
    return 0;
}
