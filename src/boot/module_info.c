#include "boot/elf64.h"
#include "boot/modules.h"

#include <errno.h>
#include <string.h>

/* .modinfo is a row of NUL-terminated "key=value"; parameters' descriptions make it long. */
#define MODINFO_MAX (1U << 20)

/* A signed module ends with the signature, a descriptor of 12 bytes whose last 4 are the
 * signature's length (big endian), and this text. */
#define SIGNED "~Module signature appended~\n"
#define SIGNED_LEN (sizeof(SIGNED) - 1)
#define DESCRIPTOR_LEN 12U

void module_info_done(struct module_info *info)
{
    free(info->deps);
    *info = (struct module_info){0};
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

bool module_name_valid(const char *name)
{
    size_t n = strnlen(name, MODULE_NAME_SIZE);

    if (n == 0 || n == MODULE_NAME_SIZE) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!name_char(name[i])) {
            return false;
        }
    }
    return true;
}

/* Appends the name unless it is there; a hard dependency outweighs a soft one. */
static int add_dep(struct module_info *info, const char *name, size_t len, bool soft)
{
    struct module_dep dep = {.soft = soft};
    struct module_dep *deps;

    if (len >= sizeof(dep.name)) {
        return soft ? 0 : -EPROTO;
    }
    for (size_t i = 0; i < len; i++) {
        dep.name[i] = name[i] == '-' ? '_' : name[i];
    }
    if (!module_name_valid(dep.name)) {
        return soft ? 0 : -EPROTO; /* a soft one may be any alias */
    }
    for (size_t i = 0; i < info->dep_count; i++) {
        if (strcmp(info->deps[i].name, dep.name) == 0) {
            info->deps[i].soft = info->deps[i].soft && soft;
            return 0;
        }
    }
    if (info->dep_count == MODULES_MAX) {
        return -EPROTO;
    }
    deps = realloc(info->deps, (info->dep_count + 1) * sizeof(*deps));
    if (!deps) {
        abort();
    }
    deps[info->dep_count++] = dep;
    info->deps = deps;
    return 0;
}

/* "a,b,c" */
static int add_depends(struct module_info *info, const char *value)
{
    while (*value) {
        size_t n = strcspn(value, ",");
        int r = n > 0 ? add_dep(info, value, n, false) : 0;

        if (r < 0) {
            return r;
        }
        value += n;
        value += *value == ',';
    }
    return 0;
}

/* "pre: a b post: c"; what stands before the first of the two words counts for neither. */
static int add_softdep(struct module_info *info, const char *value)
{
    bool pre = false;

    while (*value) {
        size_t n = strcspn(value, " \t");
        int r = 0;

        if (n == 4 && memcmp(value, "pre:", 4) == 0) {
            pre = true;
        } else if (n == 5 && memcmp(value, "post:", 5) == 0) {
            pre = false;
        } else if (n > 0 && pre) {
            r = add_dep(info, value, n, true);
        }
        if (r < 0) {
            return r;
        }
        value += n;
        value += *value != '\0';
    }
    return 0;
}

static int parse_modinfo(struct module_info *info, const char *p, size_t len)
{
    while (len > 0) {
        size_t n = strnlen(p, len);
        int r = 0;

        if (n == len) {
            return -EPROTO; /* not terminated */
        }
        if (strncmp(p, "depends=", 8) == 0) {
            r = add_depends(info, p + 8);
        } else if (strncmp(p, "softdep=", 8) == 0) {
            r = add_softdep(info, p + 8);
        }
        if (r < 0) {
            return r;
        }
        p += n + 1;
        len -= n + 1;
    }
    return 0;
}

int module_info(const uint8_t *elf, size_t len, struct module_info *ret_info)
{
    _cleanup_(module_info_done) struct module_info info = {0};
    struct elf64 e;
    Elf64_Shdr s;
    int r;

    if (elf64_open(&e, elf, len) < 0 || e.header.e_type != ET_REL) {
        return -EPROTO;
    }
    r = elf64_find_section(&e, ".modinfo", &s);
    if (r > 0) {
        r = s.sh_size > MODINFO_MAX
                ? -EPROTO
                : parse_modinfo(&info, (const char *)elf + s.sh_offset, s.sh_size);
    }
    if (r < 0) {
        return r;
    }
    *ret_info = info;
    info = (struct module_info){0};
    return 0;
}

static size_t len_without_signature(const uint8_t *data, size_t len)
{
    const uint8_t *p;
    uint32_t size;

    if (len < SIGNED_LEN + DESCRIPTOR_LEN ||
        memcmp(data + len - SIGNED_LEN, SIGNED, SIGNED_LEN) != 0) {
        return len;
    }
    p = data + len - SIGNED_LEN - 4;
    size = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
    if (size > len - SIGNED_LEN - DESCRIPTOR_LEN) {
        return len;
    }
    return len - SIGNED_LEN - DESCRIPTOR_LEN - size;
}

void module_list_strip_signatures(struct module_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        list->items[i].len = len_without_signature(list->items[i].data, list->items[i].len);
    }
}
