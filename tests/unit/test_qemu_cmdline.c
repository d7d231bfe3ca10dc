/* vmm/qemu/qemu_cmdline: the whole command line as text, and what is refused. */
#include "base/buf.h"
#include "vmm/qemu/qemu_cmdline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const struct vmm_spec base_spec = {
    .name = "web-1",
    .run_dir = "/run/banger/vms/0123",
    .run_dir_fd = -1,
    .accel = VMM_ACCEL_TCG,
    .vcpus = 1,
    .memory_mib = 256,
    .kernel_fd = 40,
    .initramfs_fd = 41,
    .cmdline = "console=ttyS0 panic=-1 a=\"b, c\"",
    .root_disk_fd = 42,
    .data_disk_fd = 43,
    .memory_fd = -1,
    .state_fd = -1,
    .tap_fd = -1,
    .console_fd = 44,
};

/* One argument a line; free it. */
static char *build(const struct vmm_spec *spec)
{
    struct qemu_cmdline c;
    struct buf text;
    struct err err;

    buf_init(&text, 65536);
    assert_int_equal(qemu_cmdline_build(spec, &c, &err), 0);
    assert_null(c.argv[c.count]);
    for (size_t i = 0; i < c.count; i++) {
        assert_int_equal(buf_append_str(&text, c.argv[i]), 0);
        assert_int_equal(buf_append_str(&text, "\n"), 0);
    }
    qemu_cmdline_done(&c);
    return buf_steal_str(&text);
}

#define BEGIN                                                                                      \
    "qemu-system-x86_64\n"                                                                         \
    "-name\nguest=web-1,debug-threads=on\n"                                                        \
    "-L\n/run/banger/vms/0123\n"                                                                   \
    "-sandbox\non,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny\n"          \
    "-nodefaults\n-no-user-config\n-display\nnone\n-no-reboot\n"                                   \
    "-machine\nmicrovm,acpi=on,rtc=on,pit=off,pic=off,x-option-roms=off,dump-guest-core=off\n"
#define BOOT                                                                                       \
    "-S\n-kernel\n/proc/self/fd/3\n-initrd\n/proc/self/fd/4\n"                                     \
    "-append\nconsole=ttyS0 panic=-1 a=\"b, c\"\n"
#define DISKS                                                                                      \
    "-add-fd\nfd=5,set=5\n"                                                                        \
    "-blockdev\ndriver=raw,node-name=root,read-only=on,file.driver=file,"                          \
    "file.filename=/dev/fdset/5,file.locking=off\n"                                                \
    "-device\nvirtio-blk-device,drive=root,serial=banger-root\n"                                   \
    "-add-fd\nfd=6,set=6\n"                                                                        \
    "-blockdev\ndriver=raw,node-name=data,discard=unmap,detect-zeroes=unmap,file.driver=file,"     \
    "file.filename=/dev/fdset/6,file.locking=off\n"                                                \
    "-device\nvirtio-blk-device,drive=data,serial=banger-data,werror=stop,rerror=report\n"
#define CHANNELS                                                                                   \
    "-add-fd\nfd=7,set=7\n"                                                                        \
    "-chardev\nfile,id=console,path=/dev/fdset/7,append=on\n-serial\nchardev:console\n"            \
    "-chardev\nsocket,id=qmp,fd=8,server=on,wait=off\n-mon\nchardev=qmp,mode=control\n"            \
    "-chardev\nsocket,id=agent,fd=9,server=on,wait=off\n"                                          \
    "-device\nvirtio-serial-device,max_ports=2\n"                                                  \
    "-device\nvirtserialport,chardev=agent,name=banger.0,id=agent\n"
#define CARD                                                                                       \
    "-netdev\ntap,id=net,fd=12,vhost=off\n"                                                        \
    "-device\nvirtio-net-device,netdev=net,mac=02:ba:17:00:00:02\n"

static void the_whole_line_under_tcg(void **state)
{
    _cleanup_free_ char *text = build(&base_spec);

    (void)state;
    assert_string_equal(
        text,
        BEGIN "-accel\ntcg,tb-size=32\n-cpu\nmax,-erms\n-smp\n1\n-m\n256M\n" BOOT DISKS CHANNELS);
}

static void kvm_takes_the_hosts_cpu(void **state)
{
    struct vmm_spec spec = base_spec;
    _cleanup_free_ char *text = NULL;

    (void)state;
    spec.accel = VMM_ACCEL_KVM;
    spec.vcpus = 4;
    spec.memory_mib = 2048;
    text = build(&spec);
    assert_string_equal(text,
                        BEGIN "-accel\nkvm\n-cpu\nhost\n-smp\n4\n-m\n2048M\n" BOOT DISKS CHANNELS);
}

static void absent_disks_are_not_named(void **state)
{
    struct vmm_spec spec = base_spec;
    _cleanup_free_ char *text = NULL;

    (void)state;
    spec.root_disk_fd = spec.data_disk_fd = -1;
    text = build(&spec);
    assert_string_equal(
        text, BEGIN "-accel\ntcg,tb-size=32\n-cpu\nmax,-erms\n-smp\n1\n-m\n256M\n" BOOT CHANNELS);
}

/* The places of all others on the bus are as without it. */
static void a_card_is_the_last_device(void **state)
{
    struct vmm_spec spec = base_spec;
    _cleanup_free_ char *text = NULL, *without = qemu_cmdline_describe(&spec), *with = NULL;

    (void)state;
    spec.tap_fd = 45;
    text = build(&spec);
    assert_string_equal(
        text, BEGIN
        "-accel\ntcg,tb-size=32\n-cpu\nmax,-erms\n-smp\n1\n-m\n256M\n" BOOT DISKS CHANNELS CARD);
    with = qemu_cmdline_describe(&spec);
    assert_string_not_equal(with, without);
    assert_non_null(strstr(with, CARD));
    assert_null(strstr(without, "net"));
}

static void memory_is_a_file_that_is_shared_with_who_saves_it_only(void **state)
{
    struct vmm_spec spec = base_spec;
    _cleanup_free_ char *saved = NULL, *restored = NULL, *same = NULL;

    (void)state;
    spec.memory_fd = 45;
    saved = build(&spec);
    assert_non_null(strstr(saved, ",dump-guest-core=off,memory-backend=ram\n"));
    assert_non_null(strstr(saved, "-object\nmemory-backend-file,id=ram,mem-path=/proc/self/fd/10,"
                                  "size=256M,share=on\n" BOOT));
    same = qemu_cmdline_describe(&spec);
    spec.state_fd = 46;
    spec.name = "another";
    spec.kernel_fd = spec.initramfs_fd = -1;
    restored = build(&spec);
    assert_non_null(strstr(restored, "size=256M,share=off\n-incoming\ndefer\n" DISKS));
    assert_null(strstr(restored, "-S\n"));
    assert_null(strstr(restored, "-kernel"));
    free(STEAL_PTR(restored));
    restored = qemu_cmdline_describe(&spec);
    assert_string_equal(same, restored);
    spec.vcpus++;
    free(STEAL_PTR(restored));
    restored = qemu_cmdline_describe(&spec);
    assert_string_not_equal(same, restored);
}

static void larger_guests_get_a_larger_translation_buffer(void **state)
{
    struct vmm_spec spec = base_spec;
    _cleanup_free_ char *text = NULL;

    (void)state;
    spec.memory_mib = 512;
    text = build(&spec);
    assert_non_null(strstr(text, "\ntcg,tb-size=64\n"));
}

static void assert_refused(const struct vmm_spec *spec)
{
    struct qemu_cmdline c;
    struct err err;

    assert_int_equal(qemu_cmdline_build(spec, &c, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void what_qemu_would_misread_is_refused(void **state)
{
    struct vmm_spec spec = base_spec;

    (void)state;
    spec.name = "a,process=b";
    assert_refused(&spec);
    spec.name = base_spec.name;
    spec.run_dir = "run";
    assert_refused(&spec);
    spec.run_dir = base_spec.run_dir;
    spec.vcpus = 0;
    assert_refused(&spec);
    spec.vcpus = 256;
    assert_refused(&spec);
    spec.vcpus = 1;
    spec.memory_mib = 0;
    assert_refused(&spec);
    spec.memory_mib = UINT64_MAX;
    assert_refused(&spec);
}

static void the_version_is_found(void **state)
{
    char version[32];

    (void)state;
    assert_int_equal(qemu_parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)\nCopy",
                                        version, sizeof(version)),
                     0);
    assert_string_equal(version, "7.2.22");
    assert_int_equal(
        qemu_parse_version("warning\nQEMU emulator version 10.0\n", version, sizeof(version)), 0);
    assert_string_equal(version, "10.0");
    assert_true(qemu_parse_version("", version, sizeof(version)) < 0);
    assert_true(qemu_parse_version("QEMU emulator version x", version, sizeof(version)) < 0);
    assert_true(qemu_parse_version("QEMU emulator version 7.2.22", version, 6) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_line_under_tcg),
        cmocka_unit_test(kvm_takes_the_hosts_cpu),
        cmocka_unit_test(absent_disks_are_not_named),
        cmocka_unit_test(a_card_is_the_last_device),
        cmocka_unit_test(memory_is_a_file_that_is_shared_with_who_saves_it_only),
        cmocka_unit_test(larger_guests_get_a_larger_translation_buffer),
        cmocka_unit_test(what_qemu_would_misread_is_refused),
        cmocka_unit_test(the_version_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
