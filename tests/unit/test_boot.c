/* boot/: kernel images, the initramfs, the command line. Modules: test_boot_modules.c. With
 * BANGER_TEST_KERNEL_DIR (an unpacked Debian kernel package) also a real kernel. */
#include "boot/cmdline.h"
#include "boot/initramfs.h"
#include "boot/tsc.h"
#include "boot/vmlinux.h"
#include "boot_fixture.h"
#include "codec/cpio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static void assert_says(const struct err *err, enum err_code code, const char *text)
{
    assert_int_equal(err->code, code);
    if (!strstr(err->message, text)) {
        fail_msg("'%s' does not say '%s'", err->message, text);
    }
}

/* On the heap, exactly as large: a sanitizer sees a read behind it. */
static int extract(const void *image, size_t len, struct buf *ret, struct err *err)
{
    uint8_t *copy = malloc(len ? len : 1), *elf = NULL;
    size_t elf_len = 0;
    int r;

    if (len > 0) {
        memcpy(copy, image, len);
    }
    err->code = ERR_NONE;
    r = vmlinux_extract(copy, len, &elf, &elf_len, err);
    free(copy);
    assert_int_equal(r < 0, err->code != ERR_NONE);
    buf_init(ret, 1U << 20);
    if (r == 0) {
        assert_int_equal(buf_append(ret, elf, elf_len), 0);
    } else {
        assert_null(elf);
    }
    free(elf);
    return r;
}

static void refused(const struct buf *image, enum err_code code, const char *text)
{
    _cleanup_buf_ struct buf out;
    struct err err;

    assert_true(extract(image->len ? buf_head(image) : NULL, image->len, &out, &err) < 0);
    assert_says(&err, code, text);
}

static void an_elf_vmlinux_is_copied(void **state)
{
    _cleanup_buf_ struct buf elf, out;
    struct err err;

    (void)state;
    fixture_vmlinux(&elf);
    assert_int_equal(extract(buf_head(&elf), elf.len, &out, &err), 0);
    assert_int_equal(out.len, elf.len);
    assert_memory_equal(buf_head(&out), buf_head(&elf), elf.len);
}

static void each_compression_of_a_bzimage_is_unpacked(void **state)
{
    static const enum compression kinds[] = {COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_XZ,
                                             COMPRESSION_ZSTD, COMPRESSION_LZ4};
    _cleanup_buf_ struct buf elf;

    (void)state;
    fixture_vmlinux(&elf);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        _cleanup_buf_ struct buf image, out;
        struct err err;

        fixture_bzimage(&image, &elf, kinds[i]);
        if (extract(buf_head(&image), image.len, &out, &err) < 0) {
            fail_msg("%s: %s", compression_name(kinds[i]), err.message);
        }
        assert_int_equal(out.len, elf.len);
        assert_memory_equal(buf_head(&out), buf_head(&elf), elf.len);
    }
}

static void an_unsupported_compression_is_named(void **state)
{
    static const enum compression kinds[] = {COMPRESSION_BZIP2, COMPRESSION_LZMA, COMPRESSION_LZO};
    _cleanup_buf_ struct buf elf;

    (void)state;
    fixture_vmlinux(&elf);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        _cleanup_buf_ struct buf image;

        fixture_bzimage(&image, &elf, kinds[i]);
        refused(&image, ERR_UNSUPPORTED, compression_name(kinds[i]));
    }
}

static void a_kernel_cut_short_is_refused(void **state)
{
    static const enum compression kinds[] = {COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_XZ,
                                             COMPRESSION_ZSTD, COMPRESSION_LZ4};
    _cleanup_buf_ struct buf elf, out;
    struct err err;

    (void)state;
    fixture_vmlinux(&elf);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        _cleanup_buf_ struct buf image;

        fixture_bzimage(&image, &elf, kinds[i]);
        for (size_t len = 0; len < image.len; len++) {
            assert_true(extract(buf_head(&image), len, &out, &err) < 0);
            buf_done(&out);
        }
        assert_says(&err, ERR_INVALID, "cut short");
    }
    for (size_t len = 0; len < elf.len; len++) {
        assert_true(extract(buf_head(&elf), len, &out, &err) < 0);
        buf_done(&out);
    }
    assert_says(&err, ERR_INVALID, "cut short");
}

static void what_is_no_kernel_is_called_by_its_name(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *says;
    } cases[] = {
        {"", 0, "empty"},
        {"!<arch>\ndebian-binary", 21, "Debian package"},
        {"070701000", 9, "cpio"},
        {"#!/bin/sh\n", 10, "script"},
        {"QFI\xfb\0\0\0\3", 8, "qcow2"},
        {"\x1f\x8b\x08\0", 4, "gzip-compressed"},
        {"\xfd\x37zXZ\0\0", 7, "xz-compressed"},
        {"Hello, world\n", 13, "text"},
        {"\1\2\3\4", 4, "unknown data"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_buf_ struct buf image;

        buf_init(&image, 64);
        if (cases[i].len > 0) {
            assert_int_equal(buf_append(&image, cases[i].bytes, cases[i].len), 0);
        }
        refused(&image, ERR_INVALID, cases[i].says);
    }
}

static void a_size_that_lies_is_refused(void **state)
{
    static const struct {
        uint32_t claim;
        enum err_code code;
        const char *says;
    } cases[] = {
        {UINT32_MAX, ERR_LIMIT, "more than 512"},  {(512U << 20) + 1, ERR_LIMIT, "more than 512"},
        {512U << 20, ERR_INVALID, "another size"}, {0, ERR_INVALID, "cannot be unpacked"},
        {100, ERR_INVALID, "cannot be unpacked"},
    };
    static const enum compression kinds[] = {COMPRESSION_XZ, COMPRESSION_ZSTD, COMPRESSION_LZ4};
    _cleanup_buf_ struct buf elf;

    (void)state;
    fixture_vmlinux(&elf);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            _cleanup_buf_ struct buf image;

            fixture_bzimage(&image, &elf, kinds[k]);
            memcpy(image.data + image.start + image.len - 4, &cases[i].claim, 4);
            refused(&image, cases[i].code, cases[i].says);
        }
    }
}

static void damaged_data_are_refused(void **state)
{
    static const enum compression kinds[] = {COMPRESSION_GZIP, COMPRESSION_XZ};
    _cleanup_buf_ struct buf elf;

    (void)state;
    fixture_vmlinux(&elf);
    /* The two with a checksum: one bit is enough. */
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        _cleanup_buf_ struct buf image;

        fixture_bzimage(&image, &elf, kinds[k]);
        image.data[image.start + 1024 + 16 + 60] ^= 4;
        refused(&image, ERR_INVALID, "cannot be unpacked");
    }
}

/* Spoils `len` bytes of a good ELF. */
static void spoilt_elf(size_t at, const char *bytes, size_t len, enum err_code code,
                       const char *says)
{
    _cleanup_buf_ struct buf elf;

    fixture_vmlinux(&elf);
    memcpy(elf.data + elf.start + at, bytes, len);
    refused(&elf, code, says);
}

static void an_elf_that_cannot_boot_is_refused(void **state)
{
    const size_t load = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);

    (void)state;
    spoilt_elf(EI_CLASS, "\1", 1, ERR_UNSUPPORTED, "x86-64");
    spoilt_elf(offsetof(Elf64_Ehdr, e_machine), "\xb7", 1, ERR_UNSUPPORTED, "x86-64");
    spoilt_elf(offsetof(Elf64_Ehdr, e_type), "\1", 1, ERR_INVALID, "module");
    spoilt_elf(offsetof(Elf64_Ehdr, e_phnum), "\0", 1, ERR_INVALID, "no segment");
    spoilt_elf(offsetof(Elf64_Ehdr, e_phnum), "\xff\xff", 2, ERR_INVALID, "headers");
    spoilt_elf(offsetof(Elf64_Ehdr, e_phoff) + 7, "\xff", 1, ERR_INVALID, "headers");
    spoilt_elf(load + offsetof(Elf64_Phdr, p_offset) + 7, "\xff", 1, ERR_INVALID, "segment");
    spoilt_elf(load + offsetof(Elf64_Phdr, p_filesz) + 7, "\xff", 1, ERR_INVALID, "segment");
    spoilt_elf(load + offsetof(Elf64_Phdr, p_memsz), "\1\0", 2, ERR_INVALID, "segment");
    /* Another note, another name, a note that is longer than its segment. */
    spoilt_elf(FIXTURE_ELF_NOTE + 8, "\x11", 1, ERR_UNSUPPORTED, "PVH");
    spoilt_elf(FIXTURE_ELF_NOTE + 12, "Zen", 3, ERR_UNSUPPORTED, "PVH");
    spoilt_elf(FIXTURE_ELF_NOTE, "\xff\xff\xff\xff", 4, ERR_UNSUPPORTED, "PVH");
    spoilt_elf(FIXTURE_ELF_NOTE + 4, "\x05", 1, ERR_UNSUPPORTED, "PVH");
}

static void the_release_is_read(void **state)
{
    char release[VMLINUX_RELEASE_SIZE];
    _cleanup_buf_ struct buf elf, image;
    struct err err;

    (void)state;
    fixture_vmlinux(&elf);
    fixture_bzimage(&image, &elf, COMPRESSION_LZ4);
    assert_int_equal(vmlinux_release(buf_head(&elf), elf.len, release, &err), 0);
    assert_string_equal(release, "6.1.0-fixture");
    memset(release, 0, sizeof(release));
    assert_int_equal(vmlinux_release(buf_head(&image), image.len, release, &err), 0);
    assert_string_equal(release, "6.1.0-fixture");
    /* It becomes a path. */
    memcpy(image.data + image.start + 0x300, "../6.1 ", 7);
    assert_true(vmlinux_release(buf_head(&image), image.len, release, &err) < 0);
    assert_says(&err, ERR_INVALID, "version");
    memset(image.data + image.start + 0x300, '6', 100);
    assert_true(vmlinux_release(buf_head(&image), image.len, release, &err) < 0);
    assert_true(vmlinux_release((const uint8_t *)"\x7f"
                                                 "ELF",
                                4, release, &err) < 0);
    assert_true(vmlinux_release(NULL, 0, release, &err) < 0);
    assert_says(&err, ERR_INVALID, "empty");
}

static void the_initramfs_has_agent_and_modules_in_order(void **state)
{
    static const char *const want[] = {"dev",
                                       "proc",
                                       "sys",
                                       "mnt",
                                       "run",
                                       "modules",
                                       "dev/console",
                                       "init",
                                       "modules/00-virtio_ring.ko",
                                       "modules/01-virtio.ko",
                                       "modules/order"};
    static const char order[] = "00-virtio_ring.ko\n01-virtio.ko\n";
    struct boot_module items[] = {{"virtio_ring", (uint8_t *)"one", 3},
                                  {"virtio", (uint8_t *)"two", 3}};
    struct module_list list = {items, ARRAY_LEN(items)};
    _cleanup_buf_ struct buf out, twice;
    struct cpio_reader r;
    struct cpio_entry e;
    struct err err;

    (void)state;
    buf_init(&out, INITRAMFS_MAX);
    buf_init(&twice, INITRAMFS_MAX);
    assert_int_equal(initramfs_write(&out, (const uint8_t *)"agent", 5, &list, &err), 0);
    assert_int_equal(initramfs_write(&twice, (const uint8_t *)"agent", 5, &list, &err), 0);
    assert_int_equal(out.len, twice.len);
    assert_memory_equal(buf_head(&out), buf_head(&twice), out.len);
    cpio_reader_init(&r, buf_head(&out), out.len);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(cpio_next(&r, &e), 1);
        assert_string_equal(e.name, want[i]);
        if (strcmp(e.name, "init") == 0) {
            assert_int_equal(e.mode, S_IFREG | 0755);
            assert_int_equal(e.len, 5);
        }
    }
    assert_int_equal(e.len, sizeof(order) - 1);
    assert_memory_equal(e.data, order, sizeof(order) - 1);
    assert_int_equal(cpio_next(&r, &e), 0);
}

static void a_bad_initramfs_is_refused_and_leaves_nothing(void **state)
{
    struct boot_module item = {"../etc", (uint8_t *)"one", 3};
    struct module_list list = {&item, 1};
    _cleanup_buf_ struct buf out;
    struct err err;

    (void)state;
    buf_init(&out, 1000);
    assert_true(initramfs_write(&out, NULL, 0, NULL, &err) < 0);
    assert_says(&err, ERR_INVALID, "empty");
    assert_true(initramfs_write(&out, (const uint8_t *)"a", 1, &list, &err) < 0);
    assert_says(&err, ERR_INVALID, "../etc");
    assert_true(initramfs_write(&out, (const uint8_t *)"a", 1, NULL, &err) < 0);
    assert_says(&err, ERR_LIMIT, "1000");
    assert_int_equal(out.len, 0);
}

static bool has_word(const char *line, const char *word)
{
    const char *p = line;
    size_t n = strlen(word);

    while ((p = strstr(p, word))) {
        if ((p == line || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0')) {
            return true;
        }
        p += n;
    }
    return false;
}

static void the_command_line_follows_the_parameters(void **state)
{
    static const char *const extra[] = {"quiet", "foo.bar=1,2"};
    char line[CMDLINE_SIZE];
    struct err err;

    (void)state;
    assert_int_equal(cmdline_build(
                         &(struct cmdline_params){
                             .emulated = true, .tsc_khz = 2596142, .vcpus = 1, .console = true},
                         line, &err),
                     0);
    assert_true(has_word(line, "tsc_early_khz=2596142"));
    assert_true(has_word(line, "tsc=reliable"));
    assert_true(has_word(line, "console=ttyS0"));
    assert_true(has_word(line, "quiet"));
    assert_true(has_word(line, "panic=-1"));
    assert_null(strstr(line, "tracer"));
    assert_int_equal(cmdline_build(&(struct cmdline_params){.vcpus = 2,
                                                            .verbose = true,
                                                            .extra = extra,
                                                            .extra_count = ARRAY_LEN(extra)},
                                   line, &err),
                     0);
    assert_null(strstr(line, "tsc"));
    assert_null(strstr(line, "console"));
    assert_null(strstr(line, "initcall"));
    /* Last, so that they win. */
    assert_string_equal(line + strlen(line) - strlen(" quiet foo.bar=1,2"), " quiet foo.bar=1,2");
}

static void bad_command_lines_are_refused(void **state)
{
    static char big[CMDLINE_SIZE];
    static const char *const bad[] = {"", "a b", "a\n", "\"", "--", "\xc3\xa4", "a\tb"};
    const char *many[] = {big, big};
    char line[CMDLINE_SIZE] = "unchanged";
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct cmdline_params p = {.vcpus = 1, .extra = &bad[i], .extra_count = 1};

        assert_true(cmdline_build(&p, line, &err) < 0);
        assert_says(&err, ERR_INVALID, "kernel parameter");
    }
    memset(big, 'a', 1000);
    assert_true(cmdline_build(&(struct cmdline_params){.vcpus = 1, .extra = many, .extra_count = 2},
                              line, &err) < 0);
    assert_says(&err, ERR_LIMIT, "2047");
    assert_true(cmdline_build(&(struct cmdline_params){.vcpus = 0}, line, &err) < 0);
    assert_says(&err, ERR_INVALID, "CPUs");
    assert_true(cmdline_build(&(struct cmdline_params){.vcpus = 256}, line, &err) < 0);
    /* Emulated without a rate may hang: not allowed. */
    assert_true(cmdline_build(&(struct cmdline_params){.vcpus = 1, .emulated = true}, line, &err) <
                0);
    assert_says(&err, ERR_INVALID, "TSC");
    assert_true(cmdline_build(&(struct cmdline_params){.vcpus = 1, .tsc_khz = 5}, line, &err) < 0);
    assert_string_equal(line, "unchanged");
}

static void two_measurements_of_the_tsc_agree(void **state)
{
    uint32_t a = 0, b = 0;
    int r;

    (void)state;
    r = tsc_host_khz(&a);
    if (r < 0 || tsc_host_khz(&b) < 0) {
        printf("skipped: no steady time stamp counter here\n");
        skip();
    }
    assert_in_range(a, TSC_KHZ_MIN, TSC_KHZ_MAX);
    assert_in_range(b, a - a / 1000, a + a / 1000);
}

/* The whole of the file below dir whose name starts with prefix. */
static int read_prefixed(const char *dir, const char *prefix, struct buf *ret)
{
    _cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dir_fd >= 0 ? fdopendir(dup(dir_fd)) : NULL;
    _cleanup_close_ int fd = -1;
    struct dirent *e;

    buf_init(ret, 64U << 20);
    while (d && (e = readdir(d))) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && fd < 0) {
            fd = openat(dir_fd, e->d_name, O_RDONLY | O_CLOEXEC);
        }
    }
    if (d) {
        (void)closedir(d);
    }
    if (fd < 0) {
        return -ENOENT;
    }
    while (buf_read_fd(ret, fd, 1U << 20) > 0) {
    }
    return 0;
}

static void a_real_kernel_is_unpacked(void **state)
{
    static const char *const wanted[] = {"virtio_mmio",    "virtio-blk", "virtio_net",
                                         "virtio_console", "overlay",    "ext4"};
    static const char *const order[] = {"virtio_ring", "virtio",         "virtio_mmio",
                                        "virtio_blk",  "failover",       "net_failover",
                                        "virtio_net",  "virtio_console", "overlay"};
    const char *root = getenv("BANGER_TEST_KERNEL_DIR");
    char path[4096], release[VMLINUX_RELEASE_SIZE], again[VMLINUX_RELEASE_SIZE];
    _cleanup_(module_list_done) struct module_list list = {0};
    _cleanup_buf_ struct buf image;
    _cleanup_free_ uint8_t *elf = NULL;
    _cleanup_close_ int fd = -1;
    struct err err = {0};
    size_t len = 0;

    (void)state;
    buf_init(&image, 0);
    if (!root) {
        printf("skipped: BANGER_TEST_KERNEL_DIR names no unpacked kernel package\n");
        skip();
    }
    (void)snprintf(path, sizeof(path), "%s/boot", root);
    assert_int_equal(read_prefixed(path, "vmlinuz-", &image), 0);
    assert_int_equal(vmlinux_release(buf_head(&image), image.len, release, &err), 0);
    if (vmlinux_extract(buf_head(&image), image.len, &elf, &len, &err) < 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(vmlinux_release(elf, len, again, &err), 0);
    assert_string_equal(again, release);
    (void)snprintf(path, sizeof(path), "%s/lib/modules/%s", root, release);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    if (modules_resolve(fd, wanted, ARRAY_LEN(wanted), &list, &err) < 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(list.count, ARRAY_LEN(order));
    for (size_t i = 0; i < list.count; i++) {
        assert_string_equal(list.items[i].name, order[i]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_elf_vmlinux_is_copied),
        cmocka_unit_test(each_compression_of_a_bzimage_is_unpacked),
        cmocka_unit_test(an_unsupported_compression_is_named),
        cmocka_unit_test(a_kernel_cut_short_is_refused),
        cmocka_unit_test(what_is_no_kernel_is_called_by_its_name),
        cmocka_unit_test(a_size_that_lies_is_refused),
        cmocka_unit_test(damaged_data_are_refused),
        cmocka_unit_test(an_elf_that_cannot_boot_is_refused),
        cmocka_unit_test(the_release_is_read),
        cmocka_unit_test(the_initramfs_has_agent_and_modules_in_order),
        cmocka_unit_test(a_bad_initramfs_is_refused_and_leaves_nothing),
        cmocka_unit_test(the_command_line_follows_the_parameters),
        cmocka_unit_test(bad_command_lines_are_refused),
        cmocka_unit_test(two_measurements_of_the_tsc_agree),
        cmocka_unit_test(a_real_kernel_is_unpacked),
    };

    return cmocka_run_group_tests_name("boot", tests, NULL, NULL);
}
