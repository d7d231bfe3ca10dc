#include "boot/decompress.h"

#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

/* Linux's own builds use windows up to 128 MiB (zstd --ultra -22) and 32 MiB (xz). */
#define XZ_MEMORY_MAX (160ULL << 20)

#define LZ4_BLOCK_MAX (8U << 20) /* of the legacy frame, uncompressed */

static const struct {
    const char *name;
    const char *magic;
    size_t len;
} kinds[] = {
    [COMPRESSION_NONE] = {"none", "", 0},
    [COMPRESSION_GZIP] = {"gzip", "\x1f\x8b", 2},
    [COMPRESSION_XZ] = {"xz", "\xfd\x37zXZ\0", 6},
    [COMPRESSION_ZSTD] = {"zstd", "\x28\xb5\x2f\xfd", 4},
    [COMPRESSION_LZ4] = {"lz4", "\x02\x21\x4c\x18", 4},
    [COMPRESSION_BZIP2] = {"bzip2", "BZh", 3},
    [COMPRESSION_LZMA] = {"lzma", "\x5d\0\0", 3},
    [COMPRESSION_LZO] = {"lzo", "\x89LZO", 4},
};

/* Output that doubles up to a maximum. The last byte of the maximum is one more than allowed, so
 * that "exactly full" and "too much" can be told apart. */
struct sink {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t max;
};

static void sink_done(struct sink *s)
{
    free(s->data);
}

/* Makes room for at least one byte more: 0, -EFBIG at the maximum, -ENOMEM. */
static int sink_grow(struct sink *s, size_t want)
{
    size_t capacity = s->capacity < 65536 ? 65536 : s->capacity;
    uint8_t *data;

    if (want > s->max + 1 - s->len) {
        want = s->max + 1 - s->len;
    }
    if (want == 0) {
        return -EFBIG;
    }
    if (s->capacity - s->len >= want) {
        return 0;
    }
    while (capacity < s->len + want) {
        capacity *= 2;
    }
    if (capacity > s->max + 1) {
        capacity = s->max + 1;
    }
    data = realloc(s->data, capacity);
    if (!data) {
        return -ENOMEM;
    }
    s->data = data;
    s->capacity = capacity;
    return 0;
}

enum compression compression_detect(const uint8_t *data, size_t len)
{
    for (unsigned i = 1; i < ARRAY_LEN(kinds); i++) {
        if (len >= kinds[i].len && memcmp(data, kinds[i].magic, kinds[i].len) == 0) {
            return (enum compression)i;
        }
    }
    return COMPRESSION_NONE;
}

const char *compression_name(enum compression kind)
{
    return (unsigned)kind < ARRAY_LEN(kinds) ? kinds[kind].name : "unknown";
}

static void inflate_end_p(z_stream *z)
{
    (void)inflateEnd(z);
}

static int gunzip(const uint8_t *data, size_t len, struct sink *out)
{
    _cleanup_(inflate_end_p) z_stream z = {.next_in = data};
    int r = Z_OK;

    if (len > UINT_MAX) {
        return -EFBIG;
    }
    z.avail_in = (uInt)len;
    if (inflateInit2(&z, 15 + 16) != Z_OK) {
        return -ENOMEM;
    }
    while (r != Z_STREAM_END) {
        size_t room;
        int grown = sink_grow(out, 1);

        if (grown < 0) {
            return grown;
        }
        room = out->capacity - out->len;
        room = room < UINT_MAX ? room : UINT_MAX;
        z.next_out = out->data + out->len;
        z.avail_out = (uInt)room;
        r = inflate(&z, Z_NO_FLUSH);
        out->len += room - z.avail_out;
        /* Z_BUF_ERROR with room left: the input ended before the stream did. */
        if (r != Z_STREAM_END && r != Z_OK) {
            return -EPROTO;
        }
    }
    return z.avail_in == 0 ? 0 : -EPROTO;
}

static int unxz(const uint8_t *data, size_t len, struct sink *out)
{
    _cleanup_(lzma_end) lzma_stream s = LZMA_STREAM_INIT;
    lzma_ret r = LZMA_OK;

    if (lzma_stream_decoder(&s, XZ_MEMORY_MAX, 0) != LZMA_OK) {
        return -ENOMEM;
    }
    s.next_in = data;
    s.avail_in = len;
    while (r != LZMA_STREAM_END) {
        size_t room;
        int grown = sink_grow(out, 1);

        if (grown < 0) {
            return grown;
        }
        room = out->capacity - out->len;
        s.next_out = out->data + out->len;
        s.avail_out = room;
        r = lzma_code(&s, LZMA_FINISH);
        out->len += room - s.avail_out;
        if (r != LZMA_STREAM_END && r != LZMA_OK) {
            return r == LZMA_MEM_ERROR ? -ENOMEM : -EPROTO;
        }
    }
    return s.avail_in == 0 ? 0 : -EPROTO;
}

static void zstd_free_p(ZSTD_DCtx **ctx)
{
    (void)ZSTD_freeDCtx(*ctx);
}

static int unzstd(const uint8_t *data, size_t len, struct sink *out)
{
    _cleanup_(zstd_free_p) ZSTD_DCtx *ctx = ZSTD_createDCtx();
    ZSTD_inBuffer in = {data, len, 0};
    size_t r = 1;

    if (!ctx) {
        return -ENOMEM;
    }
    while (r != 0) {
        ZSTD_outBuffer to;
        size_t in_before = in.pos;
        int grown = sink_grow(out, 1);

        if (grown < 0) {
            return grown;
        }
        to = (ZSTD_outBuffer){out->data + out->len, out->capacity - out->len, 0};
        r = ZSTD_decompressStream(ctx, &to, &in);
        out->len += to.pos;
        if (ZSTD_isError(r) || (r != 0 && to.pos == 0 && in.pos == in_before)) {
            return -EPROTO;
        }
    }
    return in.pos == in.size ? 0 : -EPROTO;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The legacy frame: the magic, then blocks, each with its compressed size before it, to the end. */
static int unlz4(const uint8_t *data, size_t len, struct sink *out)
{
    size_t at = 4;

    while (at < len) {
        uint32_t size;
        size_t room;
        int r;

        if (len - at < 4) {
            return -EPROTO;
        }
        size = get32(data + at);
        at += 4;
        if (size == 0 || size > len - at || size > (uint32_t)LZ4_compressBound(LZ4_BLOCK_MAX)) {
            return -EPROTO;
        }
        /* A block does not say its size; 255 is the format's best ratio. */
        r = sink_grow(out, size < LZ4_BLOCK_MAX / 255 ? (size_t)size * 255 : LZ4_BLOCK_MAX);
        if (r < 0) {
            return r;
        }
        room = out->capacity - out->len;
        room = room < LZ4_BLOCK_MAX ? room : LZ4_BLOCK_MAX;
        r = LZ4_decompress_safe((const char *)data + at, (char *)out->data + out->len, (int)size,
                                (int)room);
        if (r < 0) {
            /* lz4 says the same for damage and for a lack of room. */
            return room < LZ4_BLOCK_MAX && out->capacity == out->max + 1 ? -EFBIG : -EPROTO;
        }
        at += size;
        out->len += (size_t)r;
    }
    return 0;
}

int decompress_blob(enum compression kind, const uint8_t *data, size_t len, size_t max,
                    uint8_t **ret_data, size_t *ret_len)
{
    _cleanup_(sink_done) struct sink out = {.max = max};
    int r;

    switch (kind) {
    case COMPRESSION_GZIP:
        r = gunzip(data, len, &out);
        break;
    case COMPRESSION_XZ:
        r = unxz(data, len, &out);
        break;
    case COMPRESSION_ZSTD:
        r = unzstd(data, len, &out);
        break;
    case COMPRESSION_LZ4:
        r = unlz4(data, len, &out);
        break;
    case COMPRESSION_NONE:
    case COMPRESSION_BZIP2:
    case COMPRESSION_LZMA:
    case COMPRESSION_LZO:
    default:
        return -EOPNOTSUPP;
    }
    if (r < 0) {
        return r;
    }
    if (out.len > max) {
        return -EFBIG;
    }
    *ret_len = out.len;
    *ret_data = STEAL_PTR(out.data);
    return 0;
}
