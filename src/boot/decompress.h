/*
 * One compressed blob to bytes in memory: kernel payloads and modules. Input is untrusted; the
 * output is bounded by the caller, and memory grows with what comes out, never with what a header
 * claims. Stateless.
 */
#pragma once

#include "base/attr.h"

#include <stdint.h>

enum compression {
    COMPRESSION_NONE = 0, /* no known magic */
    COMPRESSION_GZIP,
    COMPRESSION_XZ,
    COMPRESSION_ZSTD,
    COMPRESSION_LZ4, /* the legacy frame, which Linux uses */
    /* Recognised, but not supported. */
    COMPRESSION_BZIP2,
    COMPRESSION_LZMA,
    COMPRESSION_LZO,
};

/* By the magic number at the start. */
enum compression compression_detect(const uint8_t *data, size_t len);

/* "gzip", "xz", … */
const char *compression_name(enum compression kind);

/* Decompresses all of data, which must be one whole stream, to a buffer that the caller frees.
 * 0; -EOPNOTSUPP for a kind that is not supported; -EFBIG when more than max bytes come out;
 * -EPROTO when the data are damaged or cut short. */
int decompress_blob(enum compression kind, const uint8_t *data, size_t len, size_t max,
                    uint8_t **ret_data, size_t *ret_len) _must_check_;
