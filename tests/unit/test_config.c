/* config.toml: defaults, limits, and what is said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/str.h"
#include "codec/config.h"
#include "scratch.h"

#include <string.h>

#define ELSE "docs/CONFIG.md lists the keys"

static void refuse(const char *text, const char *message, const char *hint)
{
    struct config c;
    struct err err;

    assert_int_equal(config_parse("/etc/c.toml", text, strlen(text), &c, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.message, message);
    assert_string_equal(err.hint, hint);
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
    refuse("[net]\nmode = 'nat'", "/etc/c.toml:1:2: unknown table 'net'", ELSE);
    refuse("net.mode = 1", "/etc/c.toml:1:4: = is expected", ELSE);
    refuse("[boot]", "/etc/c.toml:1:2: unknown table 'boot'", ELSE);
    refuse("[ a ]\n[a]",
           "/etc/c.toml:1:3: unknown table 'a'\n/etc/c.toml:2:3: '[a]' is given twice", ELSE);
    refuse("accel = 1", "/etc/c.toml:1:9: 'accel' must be a string", ELSE);
    refuse("accel = 'xen'", "/etc/c.toml:1:9: 'accel' must be one of auto|kvm|tcg", ELSE);
    refuse("accel = ''", "/etc/c.toml:1:9: 'accel' must be one of auto|kvm|tcg", ELSE);
    refuse("accel = 'kv'", "/etc/c.toml:1:9: 'accel' must be one of auto|kvm|tcg", ELSE);
    refuse("accel = 'kvm|tcg'", "/etc/c.toml:1:9: 'accel' must be one of auto|kvm|tcg", ELSE);
    refuse("default_image = ''", "/etc/c.toml:1:17: 'default_image' must have 1 to 128 bytes",
           ELSE);
    memset(name, 'x', 129);
    name[129] = '\0';
    longer = x_asprintf("default_kernel = '%s'", name);
    refuse(longer, "/etc/c.toml:1:18: 'default_kernel' must have 0 to 128 bytes", ELSE);
    refuse("boot_slots = 257",
           "/etc/c.toml:1:14: 'boot_slots' must be a whole number from 0 to 256", ELSE);
    refuse("boot_slots = -1", "/etc/c.toml:1:14: 'boot_slots' must be a whole number from 0 to 256",
           ELSE);
    refuse("boot_slots = '1'",
           "/etc/c.toml:1:14: 'boot_slots' must be a whole number from 0 to 256", ELSE);
    refuse("boot_timeout_s = 0",
           "/etc/c.toml:1:18: 'boot_timeout_s' must be a whole number from 1 to 3600", ELSE);
    refuse("# c\naccel = tcg",
           "/etc/c.toml:2:9: a string, number, true, false or array is expected", ELSE);
    refuse("accel = 'tcg'\naccel = 'kvm'", "/etc/c.toml:2:6: 'accel' is given twice", ELSE);
}

static void all_mistakes_of_a_file_are_told_at_once(void **state)
{
    _cleanup_buf_ struct buf text;
    _cleanup_free_ char *many = NULL;
    struct config c;
    struct err err;

    (void)state;
    refuse("acel = 'tcg'\nboot_slots = 'x'\nboot_timeot_s = 7\n[net]\nx = 1\ny = 1\nz = ?",
           "/etc/c.toml:1:1: unknown key 'acel' (did you mean 'accel'?)\n"
           "/etc/c.toml:2:14: 'boot_slots' must be a whole number from 0 to 256\n"
           "/etc/c.toml:3:1: unknown key 'boot_timeot_s' (did you mean 'boot_timeout_s'?)\n"
           "/etc/c.toml:4:2: unknown table 'net'\n"
           "/etc/c.toml:7:5: a string, number, true, false or array is expected",
           ELSE);
    buf_init(&text, 4096);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(buf_printf(&text, "k%d = 1\n", i), 0);
    }
    many = buf_steal_str(&text);
    assert_int_equal(config_parse("/c", many, strlen(many), &c, &err), -1);
    assert_non_null(strstr(err.message, "/c:10:1: unknown key 'k9'\nand 20 more"));
    assert_null(strstr(err.message, "/c:11:1"));
}

/* A key's entry in what config show answers. */
static const json_t *setting(const json_t *list, const char *key)
{
    const json_t *entry;
    size_t i;

    json_array_foreach (list, i, entry) {
        if (str_eq(json_str(entry, "key", NULL), key)) {
            return entry;
        }
    }
    fail_msg("no setting '%s'", key);
    return NULL;
}

static void settings_tell_value_default_and_origin(void **state)
{
    static const char text[] = "# c\nboot_slots = 4\n\ndefault_kernel = \"\\u00e4\"\n";
    _cleanup_config_ struct config c = {0};
    _cleanup_json_ json_t *list = NULL;
    const json_t *slots, *kernel, *image;
    struct err err;

    (void)state;
    assert_int_equal(config_parse("/c", text, strlen(text), &c, &err), 0);
    list = config_settings(&c);
    slots = setting(list, "boot_slots");
    assert_int_equal(json_int(slots, "value", -1), 4);
    assert_int_equal(json_int(slots, "default", -1), 0);
    assert_string_equal(json_str(slots, "origin", ""), "file");
    assert_string_equal(json_str(slots, "source", ""), "/c:2");
    kernel = setting(list, "default_kernel");
    assert_string_equal(json_str(kernel, "value", ""), "\u00e4");
    assert_string_equal(json_str(kernel, "source", ""), "/c:4");
    image = setting(list, "default_image");
    assert_string_equal(json_str(image, "value", ""), "debian");
    assert_string_equal(json_str(image, "origin", ""), "default");
    assert_true(json_is_null(json_object_get(image, "source")));
}

static void a_secret_is_only_told_to_be_set(void **state)
{
    const struct config_key key = {.name = "token", .type = CONFIG_STRING, .secret = true};
    _cleanup_json_ json_t *set = config_text_value(&key, "hunter2");
    _cleanup_json_ json_t *unset = config_text_value(&key, "");

    (void)state;
    assert_string_equal(json_string_value(set), "(set)");
    assert_true(json_is_null(unset));
}

static void each_key_is_described_and_its_default_allowed(void **state)
{
    size_t count = 0;

    (void)state;
    for (const struct config_key *k = config_keys; k->name; k++) {
        assert_true(k->doc && *k->doc);
        if (k->type == CONFIG_INT) {
            assert_in_range(k->int_default, k->min, k->max);
        } else if (k->choices) {
            assert_true(str_is_choice(k->choices, k->string_default));
        } else {
            assert_in_range(strlen(k->string_default), k->min, k->max);
        }
        for (const struct config_key *other = k + 1; other->name; other++) {
            assert_string_not_equal(k->name, other->name);
        }
        count++;
    }
    assert_true(count <= CONFIG_KEYS_MAX);
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
        cmocka_unit_test(all_mistakes_of_a_file_are_told_at_once),
        cmocka_unit_test(settings_tell_value_default_and_origin),
        cmocka_unit_test(a_secret_is_only_told_to_be_set),
        cmocka_unit_test(each_key_is_described_and_its_default_allowed),
        cmocka_unit_test(a_file_is_loaded_and_a_missing_one_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
