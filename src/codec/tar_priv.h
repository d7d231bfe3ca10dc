/* Between tar.c, tar_number.c and tar_write.c: where the fields of a header are, and what they say.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Offsets; the name (100 bytes) is first. */
enum {
    TAR_AT_MODE = 100,     /* 8 */
    TAR_AT_UID = 108,      /* 8 */
    TAR_AT_GID = 116,      /* 8 */
    TAR_AT_SIZE = 124,     /* 12 */
    TAR_AT_MTIME = 136,    /* 12 */
    TAR_AT_CHECKSUM = 148, /* 8 */
    TAR_AT_TYPE = 156,     /* 1 */
    TAR_AT_TARGET = 157,   /* 100 */
    TAR_AT_MAGIC = 257,    /* 6, and 2 of version */
    TAR_AT_MAJOR = 329,    /* 8 */
    TAR_AT_MINOR = 337,    /* 8 */
    TAR_AT_PREFIX = 345,   /* 155 */
    /* of GNU's 'S' */
    TAR_AT_OLD_MAP = 386, /* 4 pairs of 12 + 12 */
    TAR_AT_OLD_MORE = 482,
    TAR_AT_OLD_REALSIZE = 483, /* 12 */
};

/* A number in a header: octal digits between blanks, or GNU's base-256. 0, -EPROTO, -ERANGE. */
int tar_parse_number(const uint8_t *field, size_t size, int64_t *ret);
/* One that must not be negative. 0 or -EPROTO. */
int tar_parse_unsigned(const uint8_t *field, size_t size, uint64_t *ret);
/* A number in a record: digits and nothing else, at most TAR_SIZE_MAX. 0 or -EPROTO. */
int tar_parse_decimal(const uint8_t *s, size_t len, uint64_t *ret);
/* A time in a record: "-12.345". 0 or -EPROTO. */
int tar_parse_time(const uint8_t *s, size_t len, int64_t *ret_s, uint32_t *ret_ns);
