/* docs/CONFIG.md, printed from the table in config.c. */
#include "base/str.h"
#include "codec/config.h"
#include "codec/doc.h"

#define DOC_MAX (256 * 1024)

static const char intro[] =
    "# Configuration\n\n"
    "Printed by `banger internal config` from the table in `src/codec/config.c`; a test compares.\n\n"
    "One file, read when the daemon starts: `/etc/banger/config.toml` for root,\n"
    "`~/.config/banger/config.toml` for others, or what `BANGER_CONFIG` or `bangerd --config` names. "
    "A\n"
    "file that does not exist is an empty one. To apply a change: `banger daemon stop`; the next\n"
    "command starts a daemon that reads it, and running VMs go on. `banger config show` prints what\n"
    "the daemon uses: each value, and where it comes from.\n\n"
    "The format is a part of TOML 1.0: `key = value` lines with strings on one line, decimal "
    "integers\n"
    "and comments. A key or table that is unknown, a key that is given twice, of the wrong type or "
    "out\n"
    "of range stops the daemon from starting, with `FILE:LINE:COLUMN: why` for each such mistake "
    "and,\n"
    "for a near miss, what was probably meant.\n\n"
    "| key | type | default | allowed | |\n|---|---|---|---|---|\n";

static const char example[] = "\nExample:\n\n"
                              "    # This machine has two slow cores.\n"
                              "    accel = \"tcg\"\n"
                              "    boot_slots = 1\n"
                              "    boot_timeout_s = 300\n";

static void put_limits(struct buf *out, const struct config_key *k)
{
    if (k->choices) {
        for (const char *c = k->choices; *c; c++) {
            if (*c == '|') {
                PUT(out, ", ");
            } else {
                PUT(out, "%c", *c);
            }
        }
    } else {
        PUT(out, "%lld to %lld%s", (long long)k->min, (long long)k->max,
            k->type == CONFIG_STRING ? " bytes" : "");
    }
}

char *config_markdown(void)
{
    struct buf out;

    buf_init(&out, DOC_MAX);
    PUT(&out, "%s", intro);
    for (const struct config_key *k = config_keys; k->name; k++) {
        PUT(&out, "| `%s` | %s | ", k->name, k->type == CONFIG_STRING ? "string" : "integer");
        if (k->type == CONFIG_INT) {
            PUT(&out, "`%lld`", (long long)k->int_default);
        } else if (k->string_default[0]) {
            PUT(&out, "`%s`", k->string_default);
        } else {
            PUT(&out, "*(empty)*");
        }
        PUT(&out, " | ");
        put_limits(&out, k);
        PUT(&out, " | %s |\n", k->doc);
    }
    PUT(&out, "%s", example);
    return buf_steal_str(&out);
}
