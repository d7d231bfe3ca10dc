#include "codec/config.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "codec/toml.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MISTAKES_MAX 10

#define AT(member) .offset = offsetof(struct config, member)

const struct config_key config_keys[] = {
    {.name = "accel",
     .type = CONFIG_STRING,
     AT(accel),
     .choices = "auto|kvm|tcg",
     .string_default = "auto",
     .doc =
         "How guests run. `auto` boots a test guest under KVM once per boot of the host and uses "
         "emulation when that fails; `kvm` and `tcg` skip the test."},
    {.name = "default_image",
     .type = CONFIG_STRING,
     AT(default_image),
     .min = 1,
     .max = 128,
     .string_default = "debian",
     .doc = "The image of a VM that names none."},
    {.name = "default_kernel",
     .type = CONFIG_STRING,
     AT(default_kernel),
     .max = 128,
     .string_default = "",
     .doc = "The kernel of a VM that names none; empty means the newest one imported."},
    {.name = "boot_slots",
     .type = CONFIG_INT,
     AT(boot_slots),
     .max = 256,
     .int_default = 0,
     .doc =
         "How many guests boot at the same time; 0 means one per core. The others wait for their "
         "turn."},
    {.name = "boot_timeout_s",
     .type = CONFIG_INT,
     AT(boot_timeout_s),
     .min = 1,
     .max = 3600,
     .int_default = 120,
     .doc = "A guest whose agent has not answered after this time has failed to start."},
    {.name = "boot_silence_s",
     .type = CONFIG_INT,
     AT(boot_silence_s),
     .min = 1,
     .max = 3600,
     .int_default = 20,
     .doc =
         "A booting guest that has neither answered nor printed anything for this long hangs; it "
         "is started once more."},
    {.name = "min_free_mib",
     .type = CONFIG_INT,
     AT(min_free_mib),
     .max = 1 << 24,
     .int_default = 512,
     .doc =
         "What is kept free on the filesystems of the state and cache directories, in MiB, but at "
         "most a twentieth of such a filesystem. Creating a VM, registering an image and importing "
         "a kernel are refused when they would not leave it; running VMs may use it, and one that "
         "is paused because the disk was full goes on when it is there again. 0 keeps nothing."},
    {.name = "templates",
     .type = CONFIG_STRING,
     AT(templates),
     .choices = "auto|manual|off",
     .string_default = "auto",
     .doc =
         "Whether new VMs are forked from templates, which takes a tenth of the time that booting "
         "takes. `auto`: a template is made in the background when a VM booted for want of one; "
         "`manual`: only `banger template create` makes any; `off`: all VMs boot."},
    {.name = "template_disk_mib",
     .type = CONFIG_INT,
     AT(template_disk_mib),
     .max = 1 << 24,
     .int_default = 4096,
     .doc =
         "How much of the disk templates may occupy, in MiB; when there is a new one, those that "
         "were not used for longest go."},
    {.name = "pool_size",
     .type = CONFIG_INT,
     AT(pool_size),
     .max = 256,
     .int_default = 1,
     .doc = "How many forks are kept ready of each template that was used in the last ten minutes. "
            "One takes about 30 MiB of memory, and a new VM a tenth of the time of a fork that has "
            "to be made. They are given back when less than 15 % of the host's memory is left."},
    {.name = "network",
     .type = CONFIG_STRING,
     AT(network),
     .choices = "auto|nat|none",
     .string_default = "auto",
     .doc =
         "Whether VMs have a network. `nat`: they reach what the host reaches, and neither the host "
         "nor each other, unless --net none is given; `none`: they have none; `auto`: `nat` where "
         "the host allows that, which takes root, nftables and /dev/net/tun."},
    {.name = "subnet",
     .type = CONFIG_STRING,
     AT(subnet),
     .max = 32,
     .string_default = "auto",
     .doc =
         "The IPv4 subnet of VMs' addresses, such as 10.201.0.0/16. `auto`: one that no route of "
         "the host overlaps, and the same again as long as that is so."},
    {.name = "tap_pool_size",
     .type = CONFIG_INT,
     AT(tap_pool_size),
     .max = 256,
     .int_default = 4,
     .doc = "How many network devices are kept ready for VMs that are started. 0: each is made "
            "when it is wanted."},
    {.name = "dns_port",
     .type = CONFIG_INT,
     AT(dns_port),
     .max = 65535,
     .int_default = 5354,
     .doc =
         "Port on 127.0.0.1 where programs of the host can ask for VMs' names, `NAME.vm` and what "
         "is below it. 0: none."},
    {.name = "resolv_conf",
     .type = CONFIG_STRING,
     AT(resolv_conf),
     .max = 4095,
     .string_default = "/etc/resolv.conf",
     .doc = "The file that names the nameservers that guests' questions are passed on to."},
    {.name = "vmm_uid_first",
     .type = CONFIG_INT,
     AT(vmm_uid_first),
     .min = 1,
     .max = 0xFFFFFFFD,
     .int_default = 2100000000,
     .doc =
         "With root, each VM's QEMU runs under a user id (and group id) of its own that nobody else "
         "has: this is the first of them. By default they lie where no distribution, container or "
         "directory service puts any. Without root QEMU runs as the user."},
    {.name = "vmm_uid_count",
     .type = CONFIG_INT,
     AT(vmm_uid_count),
     .min = 1,
     .max = 16777216,
     .int_default = 1048576,
     .doc = "How many of them there are. Several daemons may share them."},
    {0},
};

static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= CONFIG_KEYS_MAX + 1,
              "struct config has a line for each key");

static char **string_at(struct config *c, const struct config_key *k)
{
    return (char **)(void *)((char *)c + k->offset);
}

static int64_t *int_at(struct config *c, const struct config_key *k)
{
    return (int64_t *)(void *)((char *)c + k->offset);
}

/* Mistakes --------------------------------------------------------------------------------------*/

struct loading {
    const char *path;
    struct config *config;
    unsigned mistakes;
    struct err err;      /* the first ones, a line each */
    char last_hint[128]; /* what the last mistake probably meant, or "" */
    char bad_table[256]; /* its keys are no mistakes of their own */
};

static void mistake(struct loading *l, unsigned line, unsigned column, const char *near,
                    const char *fmt, ...) _printf_(5, 6);
static void mistake(struct loading *l, unsigned line, unsigned column, const char *near,
                    const char *fmt, ...)
{
    char why[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    if (l->mistakes == 0) {
        err_set(&l->err, ERR_INVALID, "%s:%u:%u: %s", l->path, line, column, why);
    } else if (l->mistakes < MISTAKES_MAX) {
        if (l->last_hint[0]) {
            err_append(&l->err, " (did you mean '%s'?)", l->last_hint);
        }
        err_append(&l->err, "\n%s:%u:%u: %s", l->path, line, column, why);
    }
    if (l->mistakes < MISTAKES_MAX) {
        (void)snprintf(l->last_hint, sizeof(l->last_hint), "%s", near ? near : "");
    }
    l->mistakes++;
}

/* One mistake has its suggestion as the hint; of several each has it on its line. */
static int mistakes_end(struct loading *l, struct err *err)
{
    static const char where[] = "docs/CONFIG.md lists the keys";

    if (l->mistakes == 1) {
        (void)(l->last_hint[0] ? err_hint(&l->err, "did you mean '%s'?", l->last_hint)
                               : err_hint(&l->err, where));
    } else {
        if (l->last_hint[0]) {
            err_append(&l->err, " (did you mean '%s'?)", l->last_hint);
        }
        if (l->mistakes > MISTAKES_MAX) {
            err_append(&l->err, "\nand %u more", l->mistakes - MISTAKES_MAX);
        }
        err_hint(&l->err, where);
    }
    *err = l->err;
    return -1;
}

/* The table of a key "table.key" as a string of n bytes; 0 for a key without one. */
static size_t table_len(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot ? (size_t)(dot - name) : 0;
}

static bool is_table(const char *name)
{
    size_t len = strlen(name);

    for (const struct config_key *k = config_keys; k->name; k++) {
        if (strncmp(k->name, name, len) == 0 && k->name[len] == '.') {
            return true;
        }
    }
    return false;
}

static void unknown(struct loading *l, const char *name, const struct toml_value *v)
{
    const char *names[CONFIG_KEYS_MAX];
    size_t n = 0, len = table_len(name);

    if (l->bad_table[0] && len == strlen(l->bad_table) && strncmp(name, l->bad_table, len) == 0) {
        return;
    }
    for (const struct config_key *k = config_keys; k->name; k++) {
        names[n++] = k->name;
    }
    mistake(l, v->line, v->column, str_nearest(name, names, n), "unknown key '%.128s'", name);
}

static void on_table(struct loading *l, const char *name, const struct toml_value *v)
{
    char *tables[CONFIG_KEYS_MAX];
    size_t n = 0;

    if (is_table(name)) {
        return;
    }
    for (const struct config_key *k = config_keys; k->name; k++) {
        if (table_len(k->name) > 0) {
            tables[n++] = x_strndup(k->name, table_len(k->name));
        }
    }
    mistake(l, v->line, v->column, str_nearest(name, (const char *const *)tables, n),
            "unknown table '%.128s'", name);
    (void)snprintf(l->bad_table, sizeof(l->bad_table), "%s", name);
    for (size_t i = 0; i < n; i++) {
        free(tables[i]);
    }
}

static void set_string(struct loading *l, const struct config_key *k, const struct toml_value *v)
{
    size_t n = v->type == TOML_STRING ? strlen(v->string) : 0;

    if (v->type != TOML_STRING) {
        mistake(l, v->line, v->value_column, NULL, "'%s' must be a string", k->name);
    } else if (k->choices && !str_is_choice(k->choices, v->string)) {
        mistake(l, v->line, v->value_column, NULL, "'%s' must be one of %s", k->name, k->choices);
    } else if (!k->choices && (n < (size_t)k->min || n > (size_t)k->max)) {
        mistake(l, v->line, v->value_column, NULL, "'%s' must have %lld to %lld bytes", k->name,
                (long long)k->min, (long long)k->max);
    } else {
        free(*string_at(l->config, k));
        *string_at(l->config, k) = x_strdup(v->string);
    }
}

static void set_int(struct loading *l, const struct config_key *k, const struct toml_value *v)
{
    if (v->type != TOML_INT || v->integer < k->min || v->integer > k->max) {
        mistake(l, v->line, v->value_column, NULL, "'%s' must be a whole number from %lld to %lld",
                k->name, (long long)k->min, (long long)k->max);
        return;
    }
    *int_at(l->config, k) = v->integer;
}

static int on_key(void *arg, const char *name, const struct toml_value *v, struct err *err)
{
    struct loading *l = arg;

    (void)err;
    if (v->type == TOML_TABLE) {
        on_table(l, name, v);
        return 0;
    }
    for (const struct config_key *k = config_keys; k->name; k++) {
        if (str_eq(k->name, name)) {
            l->config->lines[k - config_keys] = v->line;
            if (k->type == CONFIG_STRING) {
                set_string(l, k, v);
            } else {
                set_int(l, k, v);
            }
            return 0;
        }
    }
    unknown(l, name, v);
    return 0;
}

/* Loading ---------------------------------------------------------------------------------------*/

static void set_defaults(struct config *c)
{
    *c = (struct config){0};
    for (const struct config_key *k = config_keys; k->name; k++) {
        if (k->type == CONFIG_STRING) {
            *string_at(c, k) = x_strdup(k->string_default);
        } else {
            *int_at(c, k) = k->int_default;
        }
    }
}

void config_done(struct config *c)
{
    for (const struct config_key *k = config_keys; k->name; k++) {
        if (k->type == CONFIG_STRING) {
            free(STEAL_PTR(*string_at(c, k)));
        }
    }
    free(STEAL_PTR(c->path));
}

/* The parser's "line L column C: why" is the last mistake; -1 when it says something else. */
static int take_syntax_error(struct loading *l, const struct err *err)
{
    unsigned line, column;
    int n = 0;

    if (sscanf(err->message, "line %u column %u: %n", &line, &column, &n) != 2 || n == 0) {
        return -1;
    }
    mistake(l, line, column, NULL, "%s", err->message + n);
    return 0;
}

int config_parse(const char *path, const char *text, size_t len, struct config *ret_config,
                 struct err *err)
{
    struct config c;
    struct loading l = {.path = path, .config = &c};
    int r;

    set_defaults(&c);
    c.path = x_strdup(path);
    r = toml_parse(text, len, on_key, &l, err);
    if (r == 0 && l.mistakes == 0) {
        *ret_config = c;
        return 0;
    }
    config_done(&c);
    if (r < 0 && take_syntax_error(&l, err) < 0) {
        return err_wrap(err, "%s", path);
    }
    return mistakes_end(&l, err);
}

int config_load(const char *path, struct config *ret_config, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int r = fs_read_file(AT_FDCWD, path, TOML_TEXT_MAX, &text, &len);

    if (r < 0 && r != -ENOENT) {
        return err_set_errno(err, ERR_IO, r, "cannot read the configuration '%s'", path);
    }
    return config_parse(path, text ? text : "", len, ret_config, err);
}

/* Showing ---------------------------------------------------------------------------------------*/

json_t *config_setting(const char *key, json_t *value, json_t *fallback, const char *origin,
                       const char *source)
{
    json_t *o = json_object();

    json_put_str(o, "key", key);
    json_put(o, "value", value);
    json_put(o, "default", fallback);
    json_put_str(o, "origin", origin);
    json_put_str(o, "source", source);
    return o;
}

json_t *config_text_value(const struct config_key *k, const char *text)
{
    return k->secret ? (text[0] ? json_string("(set)") : json_null())
                     : json_bytes_new(text, strlen(text));
}

json_t *config_settings(const struct config *c)
{
    json_t *list = json_array();

    for (const struct config_key *k = config_keys; k->name; k++) {
        const char *at = (const char *)c + k->offset;
        unsigned line = c->lines[k - config_keys];
        _cleanup_free_ char *source = line ? x_asprintf("%s:%u", c->path, line) : NULL;
        bool text = k->type == CONFIG_STRING;

        json_array_append_new(
            list, config_setting(k->name,
                                 text ? config_text_value(k, *(char *const *)(const void *)at)
                                      : json_integer(*(const int64_t *)(const void *)at),
                                 text ? config_text_value(k, k->string_default)
                                      : json_integer(k->int_default),
                                 line ? "file" : "default", source));
    }
    return list;
}
