/* Any text as config.toml: it is a configuration within its limits, or an error with its place. */
#include "base/str.h"
#include "codec/config.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config c;
    struct err err = {0};

    if (config_parse("/c", (const char *)data, size, &c, &err) < 0) {
        unsigned line, column;

        assert(err.code == ERR_LIMIT ||
               (err.code == ERR_INVALID && sscanf(err.message, "/c:%u:%u: ", &line, &column) == 2 &&
                line > 0 && column > 0));
        assert(str_is_utf8(err.message, strlen(err.message)));
        assert(str_is_utf8(err.hint, strlen(err.hint)));
        return 0;
    }
    assert(str_is_choice("auto|kvm|tcg", c.accel));
    assert(strlen(c.default_image) >= 1 && strlen(c.default_image) <= 128);
    assert(strlen(c.default_kernel) <= 128);
    assert(c.boot_slots >= 0 && c.boot_slots <= 256);
    assert(c.boot_timeout_s >= 1 && c.boot_timeout_s <= 3600);
    assert(c.boot_silence_s >= 1 && c.boot_silence_s <= 3600);
    config_done(&c);
    return 0;
}
