/* boot/modules: which files to load, in which order, from a lib/modules directory made here. */
#include "boot/modules.h"
#include "boot_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>

/* A lib/modules/<version> of its own for each test. */
struct tree {
    char path[64];
    int fd;
};

static int setup(void **state)
{
    struct tree *t = calloc(1, sizeof(*t));

    (void)snprintf(t->path, sizeof(t->path), "/tmp/banger-test-modules-XXXXXX");
    if (!mkdtemp(t->path)) {
        return -1;
    }
    t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = t;
    return mkdirat(t->fd, "kernel", 0755) | mkdirat(t->fd, "kernel/drivers", 0755);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct tree *t = *state;
    int r = nftw(t->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);

    (void)close(t->fd);
    free(t);
    return r;
}

static void put_file(const struct tree *t, const char *path, const void *data, size_t len)
{
    _cleanup_close_ int fd = openat(t->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
}

static void put_text(const struct tree *t, const char *path, const char *text)
{
    put_file(t, path, text, strlen(text));
}

/* A .ko with one line of .modinfo beside the usual ones. */
static void put_module(const struct tree *t, const char *path, const char *line)
{
    char modinfo[512];
    int n = snprintf(modinfo, sizeof(modinfo), "license=GPL%c%s%cname=x", 0, line, 0);
    _cleanup_buf_ struct buf ko;

    fixture_module(&ko, modinfo, (size_t)n + 1);
    put_file(t, path, buf_head(&ko), ko.len);
}

/* Resolves "a b c" and compares with "x y z"; an empty list is "". */
static void resolves_to(const struct tree *t, const char *wanted, const char *want)
{
    _cleanup_(module_list_done) struct module_list list = {0};
    char copy[256], got[512] = "";
    const char *names[16];
    size_t count = 0, at = 0;
    struct err err = {0};
    char *rest = copy, *word;

    (void)snprintf(copy, sizeof(copy), "%s", wanted);
    while ((word = strsep(&rest, " "))) {
        names[count++] = word;
    }
    if (modules_resolve(t->fd, names, count, &list, &err) < 0) {
        fail_msg("%s", err.message);
    }
    for (size_t i = 0; i < list.count; i++) {
        assert_memory_equal(list.items[i].data,
                            "\x7f"
                            "ELF",
                            4);
        at +=
            (size_t)snprintf(got + at, sizeof(got) - at, "%s%s", i ? " " : "", list.items[i].name);
    }
    assert_string_equal(got, want);
}

static void fails_with(const struct tree *t, const char *name, enum err_code code, const char *says)
{
    struct module_list list = {0};
    struct err err = {0};

    assert_true(modules_resolve(t->fd, &name, 1, &list, &err) < 0);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, says)) {
        fail_msg("'%s' does not say '%s'", err.message, says);
    }
    assert_null(list.items);
}

static void dependencies_come_first_and_once(void **state)
{
    const struct tree *t = *state;

    put_text(t, "modules.order",
             "kernel/drivers/blk.ko\nkernel/drivers/ring.ko\nkernel/drivers/virtio.ko\n"
             "kernel/drivers/net.ko\nkernel/drivers/fail.ko\n");
    put_text(t, "modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-x.ko\n");
    put_module(t, "kernel/drivers/ring.ko", "depends=");
    put_module(t, "kernel/drivers/virtio.ko", "depends=ring");
    put_module(t, "kernel/drivers/blk.ko", "depends=virtio,ring");
    put_module(t, "kernel/drivers/fail.ko", "parm=a:text");
    put_module(t, "kernel/drivers/net.ko", "depends=ring,virtio,fail,crc_x");
    resolves_to(t, "blk net", "ring virtio blk fail net");
    resolves_to(t, "net blk net ring", "ring virtio fail net blk");
    resolves_to(t, "ext4 crc_x", "");
    resolves_to(t, "ring", "ring");
}

static void hyphen_and_underscore_are_equal(void **state)
{
    const struct tree *t = *state;

    put_text(t, "modules.order", "kernel/drivers/virtio-rng.ko\nkernel/drivers/a_b.ko\n");
    put_text(t, "modules.builtin", "kernel/fs/in-here.ko\n");
    put_module(t, "kernel/drivers/virtio-rng.ko", "depends=a-b,in_here");
    put_module(t, "kernel/drivers/a_b.ko", "depends=");
    resolves_to(t, "virtio_rng virtio-rng in-here in_here", "a_b virtio_rng");
}

static void soft_dependencies_may_be_absent(void **state)
{
    const struct tree *t = *state;

    put_text(t, "modules.order", "kernel/a.ko\nkernel/b.ko\nkernel/c.ko\nkernel/d.ko\n");
    put_module(t, "kernel/a.ko", "softdep=pre: b crypto-hmac(sha1) gone c post: d");
    put_module(t, "kernel/b.ko", "depends=");
    put_module(t, "kernel/c.ko", "depends=missing");
    put_module(t, "kernel/d.ko", "softdep=pre: d a");
    resolves_to(t, "a", "b a");
    resolves_to(t, "d", "b a d");
}

static void what_is_missing_is_named(void **state)
{
    const struct tree *t = *state;

    put_text(t, "modules.order", "kernel/a.ko\nkernel/listed.ko\n");
    put_module(t, "kernel/a.ko", "depends=gone");
    fails_with(t, "absent", ERR_NOT_FOUND, "'absent' is neither built in nor a file");
    fails_with(t, "listed", ERR_NOT_FOUND, "'listed'");
    fails_with(t, "a", ERR_NOT_FOUND, "'gone', which 'a' needs");
    fails_with(t, "../a", ERR_INVALID, "no module name");
    fails_with(t, "", ERR_INVALID, "no module name");
}

static void compressed_modules_are_unpacked(void **state)
{
    static const struct {
        const char *path;
        enum compression kind;
    } files[] = {{"kernel/x.ko.xz", COMPRESSION_XZ},
                 {"kernel/z.ko.zst", COMPRESSION_ZSTD},
                 {"kernel/g.ko.gz", COMPRESSION_GZIP}};
    const struct tree *t = *state;
    _cleanup_buf_ struct buf ko;

    fixture_module(&ko, "name=x", 7);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        _cleanup_buf_ struct buf packed;

        fixture_compress(&packed, buf_head(&ko), ko.len, files[i].kind);
        put_file(t, files[i].path, buf_head(&packed), packed.len);
    }
    /* Listed with and without the suffix, and not at all. */
    put_text(t, "modules.order", "kernel/x.ko\nkernel/z.ko.zst");
    resolves_to(t, "x z g", "x z g");
}

static void the_tree_is_walked_without_a_list(void **state)
{
    const struct tree *t = *state;

    put_module(t, "kernel/drivers/deep.ko", "depends=top");
    put_module(t, "kernel/top.ko", "depends=");
    assert_int_equal(symlinkat("..", t->fd, "kernel/loop"), 0);
    assert_int_equal(symlinkat("/", t->fd, "build"), 0);
    resolves_to(t, "deep", "top deep");
}

static void a_circle_is_refused(void **state)
{
    const struct tree *t = *state;

    put_module(t, "kernel/a.ko", "depends=b");
    put_module(t, "kernel/b.ko", "depends=a");
    put_module(t, "kernel/self.ko", "depends=self");
    fails_with(t, "a", ERR_INVALID, "needs itself");
    fails_with(t, "self", ERR_INVALID, "'self' needs itself");
}

static void a_chain_too_long_is_refused(void **state)
{
    const struct tree *t = *state;

    for (int i = 0; i < 40; i++) {
        char path[64], line[64];

        (void)snprintf(path, sizeof(path), "kernel/m%d.ko", i);
        (void)snprintf(line, sizeof(line), "depends=m%d", i + 1);
        put_module(t, path, i < 39 ? line : "depends=");
    }
    resolves_to(t, "m38", "m39 m38");
    fails_with(t, "m0", ERR_INVALID, "too many");
}

static void no_path_leads_out_of_the_directory(void **state)
{
    const struct tree *t = *state;

    put_text(t, "modules.order", "../../etc/a.ko\n/etc/passwd/b.ko\nkernel/link.ko\n");
    assert_int_equal(symlinkat("/etc/passwd", t->fd, "kernel/link.ko"), 0);
    fails_with(t, "a", ERR_INVALID, "damaged");
    fails_with(t, "b", ERR_INVALID, "damaged");
    fails_with(t, "link", ERR_INVALID, "damaged");
}

static void damaged_modules_are_refused(void **state)
{
    const struct tree *t = *state;

    put_text(t, "kernel/text.ko", "no module\n");
    put_text(t, "kernel/empty.ko", "");
    put_text(t, "kernel/short.ko", "\x1f\x8b\x08");
    assert_int_equal(mkfifoat(t->fd, "kernel/fifo.ko", 0644), 0);
    fails_with(t, "text", ERR_INVALID, "'./kernel/text.ko' is damaged");
    fails_with(t, "empty", ERR_INVALID, "damaged");
    fails_with(t, "short", ERR_INVALID, "damaged");
    fails_with(t, "fifo", ERR_INVALID, "damaged");
}

static int info_of(const char *modinfo, size_t len, struct module_info *ret)
{
    _cleanup_buf_ struct buf ko;

    fixture_module(&ko, modinfo, len);
    return module_info(buf_head(&ko), ko.len, ret);
}

static void modinfo_is_read(void **state)
{
    static const char text[] = "depends=a,b-c\0softdep=pre: b_c d post: e\0softdep=f pre: g";
    struct module_info info;

    (void)state;
    assert_int_equal(info_of(text, sizeof(text), &info), 0);
    assert_int_equal(info.dep_count, 4);
    assert_string_equal(info.deps[0].name, "a");
    assert_string_equal(info.deps[1].name, "b_c");
    assert_false(info.deps[1].soft); /* the hard one counts */
    assert_string_equal(info.deps[2].name, "d");
    assert_true(info.deps[2].soft);
    assert_string_equal(info.deps[3].name, "g");
    module_info_done(&info);
}

static void malformed_modinfo_is_refused(void **state)
{
    static const char unterminated[] = {'d', 'e', 'p'};
    static const char too_long[] =
        "depends=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const char path[] = "depends=a,../b";
    struct module_info info;
    _cleanup_buf_ struct buf ko;

    (void)state;
    assert_int_equal(info_of(unterminated, sizeof(unterminated), &info), -EPROTO);
    assert_int_equal(info_of(too_long, sizeof(too_long), &info), -EPROTO);
    assert_int_equal(info_of(path, sizeof(path), &info), -EPROTO);
    fixture_module(&ko, "name=x", 7);
    for (size_t len = 0; len < ko.len; len++) {
        uint8_t *copy = malloc(len ? len : 1);

        memcpy(copy, buf_head(&ko), len);
        assert_int_equal(module_info(copy, len, &info), -EPROTO);
        free(copy);
    }
}

static void a_signature_is_cut_off(void **state)
{
    static const char signed_module[] =
        "MODULEsig!\1\2\3\4\5\6\7\10\0\0\0\4~Module signature appended~\n";
    static const char lies[] = "Msig!\1\2\3\4\5\6\7\10\0\0\1\4~Module signature appended~\n";
    struct boot_module items[] = {
        {"a", (uint8_t *)signed_module, sizeof(signed_module) - 1},
        {"b", (uint8_t *)"plain", 5},
        {"c", (uint8_t *)lies, sizeof(lies) - 1},
    };
    struct module_list list = {items, ARRAY_LEN(items)};

    (void)state;
    module_list_strip_signatures(&list);
    assert_int_equal(items[0].len, strlen("MODULE"));
    assert_int_equal(items[1].len, 5);
    assert_int_equal(items[2].len, sizeof(lies) - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(dependencies_come_first_and_once),
        TEST(hyphen_and_underscore_are_equal),
        TEST(soft_dependencies_may_be_absent),
        TEST(what_is_missing_is_named),
        TEST(compressed_modules_are_unpacked),
        TEST(the_tree_is_walked_without_a_list),
        TEST(a_circle_is_refused),
        TEST(a_chain_too_long_is_refused),
        TEST(no_path_leads_out_of_the_directory),
        TEST(damaged_modules_are_refused),
        cmocka_unit_test(modinfo_is_read),
        cmocka_unit_test(malformed_modinfo_is_refused),
        cmocka_unit_test(a_signature_is_cut_off),
    };

    return cmocka_run_group_tests_name("boot modules", tests, NULL, NULL);
}
