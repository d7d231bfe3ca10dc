/* Handlers of template.*. */
#include "base/str.h"
#include "daemon/daemon_priv.h"

/* Or NULL. */
static struct templates *get(const struct daemon *d, struct err *err)
{
    if (!d->templates) {
        err_set(err, ERR_UNSUPPORTED, "templates are off");
        (void)err_hint(err, "set templates in config.toml to auto or manual, and stop the daemon: "
                            "banger daemon stop");
    }
    return d->templates;
}

HANDLER(rpc_template_list)
{
    struct templates *t = get(ctx, err);

    (void)call;
    (void)params;
    return t ? templates_list(t, ret_result, err) : -1;
}

HANDLER(rpc_template_show)
{
    struct templates *t = get(ctx, err);

    (void)call;
    return t ? templates_show(t, api_str(params, "template"), ret_result, err) : -1;
}

HANDLER(rpc_template_create_begin)
{
    struct templates *t = get(ctx, err);
    char op[ID_SIZE];

    (void)call;
    return !t || templates_create_begin(t, params, op, err) < 0
               ? -1
               : op_show(templates_ops(t), op, ret_result, err);
}

HANDLER(rpc_template_delete)
{
    struct templates *t = get(ctx, err);

    (void)call;
    (void)ret_result;
    return t ? templates_delete(t, api_str(params, "template"), err) : -1;
}

HANDLER(rpc_template_pool)
{
    struct templates *t = get(ctx, err);
    int size = api_given(params, "size") ? (int)api_int(params, "size") : -1;

    (void)call;
    return t ? templates_set_pool(t, api_str(params, "template"), size, ret_result, err) : -1;
}

HANDLER(rpc_template_verify)
{
    struct templates *t = get(ctx, err);

    return t ? templates_verify(t, api_str(params, "template"), rpc_call_cancel(call), ret_result,
                                err)
             : -1;
}

HANDLER(rpc_template_prune)
{
    const struct templates_prune what = {
        .unused_for_ms = api_int(params, "unused_for_ms"),
        .keep_bytes =
            api_given(params, "keep_bytes") ? (uint64_t)api_int(params, "keep_bytes") : UINT64_MAX,
        .dry_run = api_flag(params, "dry_run"),
    };
    struct templates *t = get(ctx, err);

    (void)call;
    return t ? templates_prune(t, &what, ret_result, err) : -1;
}
