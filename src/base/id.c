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

void id_generate_from(random_fn random, char ret_id[ID_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[16];

    random(raw, sizeof(raw));
    for (int i = 0; i < 16; i++) {
        ret_id[2 * i] = digits[raw[i] >> 4];
        ret_id[2 * i + 1] = digits[raw[i] & 15];
    }
    ret_id[32] = '\0';
}

bool id_is_prefix(const char *s)
{
    size_t n = strspn(s, "0123456789abcdef");

    return n > 0 && n < ID_SIZE && s[n] == '\0';
}
