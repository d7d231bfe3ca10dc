#include "codec/sha256.h"

#include "base/str.h"

#include <openssl/evp.h>
#include <stdio.h>

struct sha256 {
    EVP_MD_CTX *ctx;
};

struct sha256 *sha256_new(void)
{
    struct sha256 *h = x_calloc(1, sizeof(*h));

    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        abort();
    }
    return h;
}

void sha256_add(struct sha256 *h, const void *data, size_t len)
{
    if (EVP_DigestUpdate(h->ctx, data, len) != 1) {
        abort();
    }
}

void sha256_end(struct sha256 *h, char ret_hex[SHA256_HEX_SIZE])
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_DigestFinal_ex(h->ctx, raw, &len) != 1 || len != 32) {
        abort();
    }
    for (unsigned i = 0; i < len; i++) {
        (void)snprintf(ret_hex + (size_t)2 * i, 3, "%02x", raw[i]);
    }
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_of(const void *data, size_t len, char ret_hex[SHA256_HEX_SIZE])
{
    struct sha256 *h = sha256_new();

    sha256_add(h, data, len);
    sha256_end(h, ret_hex);
}
