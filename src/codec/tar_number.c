#include "codec/tar.h"
#include "codec/tar_priv.h"

#include <errno.h>
#include <string.h>

/* Octal digits between blanks, or GNU's base-256: a set top bit, and a big-endian number in two's
 * complement behind it (of the first byte seven bits). */
int tar_parse_number(const uint8_t *field, size_t size, int64_t *ret)
{
    size_t i = 0;
    uint64_t v = 0;

    if (field[0] & 0x80) {
        bool negative = field[0] & 0x40;

        v = negative ? ~(uint64_t)0 : 0;
        for (; i < size; i++) {
            uint8_t byte = i == 0 ? (uint8_t)((field[0] & 0x7f) | (negative ? 0x80 : 0)) : field[i];

            if (v >> 55 != (negative ? 0x1ff : 0)) {
                return -ERANGE;
            }
            v = v << 8 | byte;
        }
        *ret = (int64_t)v;
        return 0;
    }
    while (i < size && field[i] == ' ') {
        i++;
    }
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
        if (v >> 60) {
            return -ERANGE;
        }
        v = v << 3 | (uint64_t)(field[i] - '0');
    }
    for (; i < size; i++) {
        if (field[i] != ' ' && field[i] != 0) {
            return -EPROTO;
        }
        if (field[i] == 0) {
            break;
        }
    }
    *ret = (int64_t)v;
    return 0;
}

int tar_parse_unsigned(const uint8_t *field, size_t size, uint64_t *ret)
{
    int64_t v;

    if (tar_parse_number(field, size, &v) < 0 || v < 0) {
        return -EPROTO;
    }
    *ret = (uint64_t)v;
    return 0;
}

/* All of the value must be digits. */
int tar_parse_decimal(const uint8_t *s, size_t len, uint64_t *ret)
{
    uint64_t v = 0;

    if (len == 0) {
        return -EPROTO;
    }
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9' || v > (TAR_SIZE_MAX - 9) / 10) {
            return -EPROTO;
        }
        v = v * 10 + (uint64_t)(s[i] - '0');
    }
    *ret = v;
    return 0;
}

/* "-12.345": seconds and a fraction of any length; what is below a nanosecond is cut off. */
int tar_parse_time(const uint8_t *s, size_t len, int64_t *ret_s, uint32_t *ret_ns)
{
    bool negative = len > 0 && s[0] == '-';
    const uint8_t *point;
    uint64_t seconds;
    uint32_t ns = 0, unit = 100000000;

    s += negative;
    len -= negative;
    point = memchr(s, '.', len);
    if (tar_parse_decimal(s, point ? (size_t)(point - s) : len, &seconds) < 0) {
        return -EPROTO;
    }
    for (size_t i = point ? (size_t)(point - s) + 1 : len; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return -EPROTO;
        }
        ns += (uint32_t)(s[i] - '0') * unit;
        unit /= 10;
    }
    *ret_s = negative ? -(int64_t)seconds - (ns > 0) : (int64_t)seconds;
    *ret_ns = negative && ns > 0 ? 1000000000 - ns : ns;
    return 0;
}
