#include "cli/pages.h"

#include "base/str.h"

#include <string.h>

/* So many that the daemon and we both have something to do, and each page costs little. */
#define PAGE 200

static json_t *names(const char *members)
{
    json_t *array = json_array();

    while (*members) {
        size_t len = strcspn(members, "|");

        json_array_append_new(array, json_stringn(members, len));
        members += len + (members[len] == '|');
    }
    return array;
}

/* Of a page's last VM. */
static json_t *position(const json_t *vm)
{
    json_t *after = json_object();

    json_put_str(after, "created_at", json_str(vm, "created_at", ""));
    json_put_str(after, "id", json_str(vm, "id", ""));
    return after;
}

static int ask(struct client *c, const json_t *params, struct err *err)
{
    return client_send(c, "vm.list", json_copy((json_t *)params), err);
}

int pages_each(struct client *c, bool all, const char *members, pages_fn fn, void *arg,
               struct err *err)
{
    _cleanup_json_ json_t *params = json_object();
    size_t count;

    json_put_bool(params, "all", all);
    json_put_int(params, "limit", PAGE);
    if (members) {
        json_put(params, "members", names(members));
    }
    if (ask(c, params, err) < 0) {
        return -1;
    }
    do {
        _cleanup_json_ json_t *page = NULL;

        if (client_await(c, "vm.list", &page, err) < 0) {
            return -1;
        }
        count = json_array_size(page);
        if (count > 0) {
            json_put(params, "after", position(json_array_get(page, count - 1)));
            if (ask(c, params, err) < 0) {
                return -1;
            }
            fn(arg, page);
        }
    } while (count > 0);
    return 0;
}

static void extend(void *arg, json_t *page)
{
    json_array_extend(arg, page);
}

int pages_list_vms(struct client *c, bool all, const char *members, json_t **ret_vms,
                   struct err *err)
{
    _cleanup_json_ json_t *vms = json_array();

    if (pages_each(c, all, members, extend, vms, err) < 0) {
        return -1;
    }
    *ret_vms = STEAL_PTR(vms);
    return 0;
}
