/* config: what the daemon goes by, and where it got it. */
#include "base/buf.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

#include <string.h>

static char *cell_key(const json_t *setting)
{
    return x_strdup(json_str(setting, "key", NULL));
}

static char *cell_value(const json_t *setting)
{
    const json_t *value = json_object_get(setting, "value");
    char *bytes = NULL;
    size_t len;

    if (json_is_integer(value)) {
        return x_asprintf("%lld", (long long)json_integer_value(value));
    }
    if (json_is_boolean(value)) {
        return x_strdup(json_is_true(value) ? "true" : "false");
    }
    return json_bytes_get(value, &bytes, &len) == 0 ? bytes : NULL;
}

/* "default", "/etc/banger/config.toml:3", "BANGER_SOCKET", "--socket". */
static char *cell_origin(const json_t *setting)
{
    return x_strdup(json_str(setting, "source", json_str(setting, "origin", NULL)));
}

static const struct out_column columns[] = {
    {"KEY", cell_key, false},
    {"VALUE", cell_value, false},
    {"ORIGIN", cell_origin, false},
};

int cmd_config_list(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *config = NULL;
    struct err err;

    (void)args;
    if (cli_call(cli, "config.show", NULL, &config, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    return out_list(cli, json_object_get(config, "settings"), columns, ARRAY_LEN(columns));
}

/* For people one table of settings and paths; for programs the object. */
int cmd_config_show(struct cli *cli, const struct cli_args *args)
{
    _cleanup_json_ json_t *config = NULL;
    _cleanup_json_ json_t *rows = NULL;
    struct err err;

    (void)args;
    if (cli_call(cli, "config.show", NULL, &config, &err) < 0) {
        return out_error(cli, NULL, NULL, &err);
    }
    if (cli->format != FORMAT_TABLE) {
        return out_object(cli, config);
    }
    rows = json_array();
    json_array_extend(rows, json_object_get(config, "settings"));
    json_array_extend(rows, json_object_get(config, "paths"));
    return out_list(cli, rows, columns, ARRAY_LEN(columns));
}
