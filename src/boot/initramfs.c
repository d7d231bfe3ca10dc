#include "boot/initramfs.h"

#include "codec/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Longest "modules/NNN-name.ko". */
#define PATH_SIZE (MODULE_NAME_SIZE + 32)

static int put_skeleton(struct cpio_writer *w, const uint8_t *agent, size_t agent_len)
{
    static const char *const dirs[] = {"dev", "proc", "sys", "mnt", "run", "modules"};
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(dirs) && r == 0; i++) {
        r = cpio_put_dir(w, dirs[i], 0755);
    }
    if (r == 0) {
        r = cpio_put_char_device(w, "dev/console", 0600, 5, 1);
    }
    return r < 0 ? r : cpio_put_file(w, "init", 0755, agent, agent_len);
}

static int put_modules(struct cpio_writer *w, const struct module_list *modules)
{
    _cleanup_buf_ struct buf order;
    char path[PATH_SIZE];
    int r;

    buf_init(&order, PATH_SIZE * MODULES_MAX);
    for (size_t i = 0; modules && i < modules->count; i++) {
        const struct boot_module *m = &modules->items[i];

        (void)snprintf(path, sizeof(path), "modules/%02zu-%s.ko", i, m->name);
        r = cpio_put_file(w, path, 0644, m->data, m->len);
        if (r == 0) {
            r = buf_printf(&order, "%s\n", path + strlen("modules/"));
        }
        if (r < 0) {
            return r;
        }
    }
    return cpio_put_file(w, "modules/order", 0644, order.len ? buf_head(&order) : NULL, order.len);
}

int initramfs_write(struct buf *out, const uint8_t *agent, size_t agent_len,
                    const struct module_list *modules, struct err *err)
{
    size_t before = out->len;
    struct cpio_writer w;
    int r;

    if (agent_len == 0) {
        return err_set(err, ERR_INVALID, "the guest agent is empty");
    }
    for (size_t i = 0; modules && i < modules->count; i++) {
        if (!module_name_valid(modules->items[i].name)) {
            return err_set(err, ERR_INVALID, "'%s' is no module name", modules->items[i].name);
        }
    }
    cpio_writer_init(&w, out);
    r = put_skeleton(&w, agent, agent_len);
    if (r == 0) {
        r = put_modules(&w, modules);
    }
    if (r == 0) {
        r = cpio_put_end(&w);
    }
    if (r < 0) {
        out->len = before;
        return err_set_errno(err, ERR_LIMIT, r, "the initramfs does not fit in %zu bytes",
                             out->max);
    }
    return 0;
}
