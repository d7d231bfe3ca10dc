/* config.toml: defaults, limits, and what is said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "daemon/config.h"
#include "scratch.h"

#include <string.h>

static void refuse(const char *text, const char *message, const char *hint)
{
    struct config c;
    struct err err;

    assert_int_equal(config_parse("/etc/c.toml", text, strlen(text), &c, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.message, message);
    if (hint) {
        assert_string_equal(err.hint, hint);
    }
}

static void everything_has_a_default(void **state)
{
    _cleanup_config_ struct config c = {0};
    struct err err;

    (void)state;
    assert_int_equal(config_parse("c", "", 0, &c, &err), 0);
    assert_string_equal(c.accel, "auto");
    assert_string_equal(c.default_image, "debian");
    assert_string_equal(c.default_kernel, "");
    assert_int_equal(c.boot_slots, 0);
    assert_int_equal(c.boot_timeout_s, 120);
    assert_int_equal(c.boot_silence_s, 20);
}

static void every_key_can_be_set(void **state)
{
    static const char text[] = "accel = \"tcg\"\ndefault_image = 'x'\ndefault_kernel = 'k'\n"
                               "boot_slots = 256\nboot_timeout_s = 3_600\nboot_silence_s = 1\n";
    _cleanup_config_ struct config c = {0};
    struct err err;

    (void)state;
    assert_int_equal(config_parse("c", text, strlen(text), &c, &err), 0);
    assert_string_equal(c.accel, "tcg");
    assert_string_equal(c.default_image, "x");
    assert_string_equal(c.default_kernel, "k");
    assert_int_equal(c.boot_slots, 256);
    assert_int_equal(c.boot_timeout_s, 3600);
    assert_int_equal(c.boot_silence_s, 1);
}

static void mistakes_are_named_with_their_place(void **state)
{
    _cleanup_free_ char *longer = NULL;
    char name[200];

    (void)state;
    refuse("\n  acel = 'tcg'", "/etc/c.toml:2:3: unknown key 'acel'", "did you mean 'accel'?");
    refuse("boot_slot = 1", "/etc/c.toml:1:1: unknown key 'boot_slot'",
           "did you mean 'boot_slots'?");
    refuse("[net]\nmode = 'nat'", "/etc/c.toml:2:1: unknown key 'net.mode'",
           "remove the line; docs/CONFIG.md lists the keys");
    refuse("accel = 1", "/etc/c.toml:1:1: 'accel' must be a string", "");
    refuse("accel = 'xen'", "/etc/c.toml:1:1: 'accel' must be one of auto|kvm|tcg", "");
    refuse("accel = ''", "/etc/c.toml:1:1: 'accel' must be one of auto|kvm|tcg", "");
    refuse("accel = 'kv'", "/etc/c.toml:1:1: 'accel' must be one of auto|kvm|tcg", "");
    refuse("accel = 'kvm|tcg'", "/etc/c.toml:1:1: 'accel' must be one of auto|kvm|tcg", "");
    refuse("default_image = ''", "/etc/c.toml:1:1: 'default_image' must have 1 to 128 bytes", "");
    memset(name, 'x', 129);
    name[129] = '\0';
    longer = x_asprintf("default_kernel = '%s'", name);
    refuse(longer, "/etc/c.toml:1:1: 'default_kernel' must have 0 to 128 bytes", "");
    refuse("boot_slots = 257", "/etc/c.toml:1:1: 'boot_slots' must be a whole number from 0 to 256",
           "");
    refuse("boot_slots = -1", "/etc/c.toml:1:1: 'boot_slots' must be a whole number from 0 to 256",
           "");
    refuse("boot_slots = '1'", "/etc/c.toml:1:1: 'boot_slots' must be a whole number from 0 to 256",
           "");
    refuse("boot_timeout_s = 0",
           "/etc/c.toml:1:1: 'boot_timeout_s' must be a whole number from 1 to 3600", "");
    refuse("# c\naccel = tcg",
           "/etc/c.toml:2:9: a string, number, true, false or array is expected", "");
    refuse("accel = 'tcg'\naccel = 'kvm'", "/etc/c.toml:2:6: 'accel' is given twice", "");
}

static void a_file_is_loaded_and_a_missing_one_is_empty(void **state)
{
    _cleanup_scratch_ struct scratch dir = scratch_new();
    _cleanup_free_ char *path = x_asprintf("%s/config.toml", dir.path);
    _cleanup_free_ char *want = x_asprintf("%s:1:1: unknown key 'x'", path);
    struct config c;
    struct err err;

    (void)state;
    assert_int_equal(config_load(path, &c, &err), 0);
    assert_string_equal(c.accel, "auto");
    config_done(&c);
    scratch_write(&dir, "config.toml", "accel = 'tcg'\n");
    assert_int_equal(config_load(path, &c, &err), 0);
    assert_string_equal(c.accel, "tcg");
    config_done(&c);
    scratch_write(&dir, "config.toml", "x = 1\n");
    assert_int_equal(config_load(path, &c, &err), -1);
    assert_string_equal(err.message, want);
    assert_int_equal(config_load(dir.path, &c, &err), -1); /* a directory */
    assert_int_equal(err.code, ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_has_a_default),
        cmocka_unit_test(every_key_can_be_set),
        cmocka_unit_test(mistakes_are_named_with_their_place),
        cmocka_unit_test(a_file_is_loaded_and_a_missing_one_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
