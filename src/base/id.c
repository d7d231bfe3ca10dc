#include "base/id.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

void random_bytes(void *buf, size_t len)
{
    char *p = buf;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);

        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            abort(); /* no entropy source at all: nothing safe can be done */
        }
        p += n;
        len -= (size_t)n;
    }
}

void id_generate(char ret_id[ID_SIZE])
{
    id_generate_from(random_bytes, ret_id);
}

static void put_hex(char *at, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";

    at[0] = digits[byte >> 4];
    at[1] = digits[byte & 15];
}

void id_generate_from(random_fn random, char ret_id[ID_SIZE])
{
    unsigned char raw[16];

    random(raw, sizeof(raw));
    for (int i = 0; i < 16; i++) {
        put_hex(ret_id + 2 * (size_t)i, raw[i]);
    }
    ret_id[32] = '\0';
}

void id_generate_uuid(random_fn random, char ret_uuid[UUID_SIZE])
{
    unsigned char raw[16];
    char *at = ret_uuid;

    random(raw, sizeof(raw));
    raw[6] = (unsigned char)(0x40 | (raw[6] & 0x0f)); /* version 4 */
    raw[8] = (unsigned char)(0x80 | (raw[8] & 0x3f)); /* variant of RFC 9562 */
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        put_hex(at, raw[i]);
        at += 2;
    }
    *at = '\0';
}

bool id_is_prefix(const char *s)
{
    size_t n = strspn(s, "0123456789abcdef");

    return n > 0 && n < ID_SIZE && s[n] == '\0';
}
