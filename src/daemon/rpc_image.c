/* Handlers of image.* and kernel.*. */
#include "base/str.h"
#include "daemon/daemon_priv.h"

#include <string.h>

HANDLER(rpc_image_list)
{
    struct daemon *d = ctx;

    (void)call;
    (void)params;
    return image_list(d->images, STORE_IMAGE, ret_result, err);
}

HANDLER(rpc_kernel_list)
{
    struct daemon *d = ctx;

    (void)call;
    (void)params;
    return image_list(d->images, STORE_KERNEL, ret_result, err);
}

typedef int (*making_fn)(struct image_registry *r, const char *name, const char *path,
                         const struct image_progress *progress, json_t **ret_json, struct err *err);

struct making {
    struct image_registry *images;
    making_fn fn;
    char *name, *path;
};

static void making_free(struct making *m)
{
    free(m->name);
    free(m->path);
    free(m);
}

static void on_stage(void *op, const char *name)
{
    op_stage(op, name);
}

static int make(struct op *op, void *arg, json_t **ret_result, struct err *err)
{
    struct making *m = arg;
    struct image_progress progress = {.stage = on_stage, .arg = op, .cancel = op_cancel(op)};
    int r = m->fn(m->images, m->name, m->path, &progress, ret_result, err);

    making_free(m);
    return r;
}

static int begin(struct daemon *d, struct op_registry *ops, making_fn fn, const json_t *params,
                 json_t **ret_result, struct err *err)
{
    struct making *m = x_calloc(1, sizeof(*m));
    char id[ID_SIZE];
    size_t len;

    m->images = d->images;
    m->fn = fn;
    m->name = x_strdup(api_str(params, "name"));
    if (json_bytes_get(json_object_get(params, "path"), &m->path, &len) < 0) {
        making_free(m);
        return err_set(err, ERR_INVALID, "the path is malformed");
    }
    if (op_begin(ops, m->name, make, m, id, err) < 0) {
        making_free(m);
        return -1;
    }
    return op_show(ops, id, ret_result, err);
}

HANDLER(rpc_image_register_begin)
{
    struct daemon *d = ctx;

    (void)call;
    return begin(d, d->image_ops, image_register, params, ret_result, err);
}

HANDLER(rpc_kernel_import_begin)
{
    struct daemon *d = ctx;

    (void)call;
    return begin(d, d->kernel_ops, kernel_import, params, ret_result, err);
}
