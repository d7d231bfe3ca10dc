/* SHA-256 (FIPS 180-4) of what comes in pieces, in hex. Stateless but for the object. */
#pragma once

#include <stddef.h>

#define SHA256_HEX_SIZE 65 /* with the NUL */

struct sha256;
struct sha256 *sha256_new(void);
void sha256_add(struct sha256 *h, const void *data, size_t len);
/* Frees h. */
void sha256_end(struct sha256 *h, char ret_hex[SHA256_HEX_SIZE]);

/* Of what there is at once. */
void sha256_of(const void *data, size_t len, char ret_hex[SHA256_HEX_SIZE]);
