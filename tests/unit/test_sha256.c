/* SHA-256: the examples of the standard (FIPS 180-4), and that pieces make no difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attr.h"
#include "codec/sha256.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *message, *digest;
} examples[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    /* 448 bits: with its padding it is two blocks. */
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    /* 896 bits: more than a block without it. */
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnop"
     "qrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};

static void digests_are_those_of_the_standard(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        char hex[SHA256_HEX_SIZE];

        sha256_of(examples[i].message, strlen(examples[i].message), hex);
        assert_string_equal(hex, examples[i].digest);
    }
}

static void pieces_are_as_the_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        const char *message = examples[i].message;
        size_t len = strlen(message);

        for (size_t piece = 1; piece <= len + 1; piece++) {
            struct sha256 *h = sha256_new();
            char hex[SHA256_HEX_SIZE];

            for (size_t at = 0; at < len; at += piece) {
                sha256_add(h, message + at, piece < len - at ? piece : len - at);
                sha256_add(h, message, 0);
            }
            sha256_end(h, hex);
            assert_string_equal(hex, examples[i].digest);
        }
    }
}

/* The standard's long example: more than 32 bits would matter only beyond what a test can take. */
static void a_million_letters(void **state)
{
    struct sha256 *h = sha256_new();
    char piece[10000], hex[SHA256_HEX_SIZE];

    (void)state;
    memset(piece, 'a', sizeof(piece));
    for (unsigned i = 0; i < 100; i++) {
        sha256_add(h, piece, sizeof(piece));
    }
    sha256_end(h, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* A NUL and bytes above 127 are bytes like any. */
static void any_byte_counts(void **state)
{
    const unsigned char zero[] = {0}, high[] = {0xbd};
    char hex[SHA256_HEX_SIZE];

    (void)state;
    sha256_of(zero, sizeof(zero), hex);
    assert_string_equal(hex, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    sha256_of(high, sizeof(high), hex);
    assert_string_equal(hex, "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_of_the_standard),
        cmocka_unit_test(pieces_are_as_the_whole),
        cmocka_unit_test(a_million_letters),
        cmocka_unit_test(any_byte_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
