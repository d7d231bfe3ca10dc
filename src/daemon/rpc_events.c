#include "daemon/daemon_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#define BATCH 64

static json_t *event_json(const struct event_row *e)
{
    char time[CLOCK_RFC3339_SIZE];
    json_t *o = json_object();

    clock_format_rfc3339(e->time_ms, time);
    json_put_int(o, "number", (long long)e->number);
    json_put_str(o, "time", time);
    json_put_str(o, "kind", e->kind);
    json_put_str(o, "object", e->object[0] ? e->object : NULL);
    json_put_str(o, "name", e->name[0] ? e->name : NULL);
    json_put_str(o, "reason", e->reason[0] ? e->reason : NULL);
    return o;
}

HANDLER(rpc_events_list)
{
    size_t left = (size_t)api_int(params, "limit"), count;
    uint64_t since = (uint64_t)api_int(params, "since");
    _cleanup_free_ struct event_row *rows = x_calloc(BATCH, sizeof(*rows));
    _cleanup_json_ json_t *list = json_array();
    struct daemon *d = ctx;

    (void)call;
    do {
        size_t most = left < BATCH ? left : BATCH;

        if (store_event_list(d->store, since, rows, most, &count, err) < 0) {
            return -1;
        }
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(list, event_json(&rows[i]));
        }
        since = count > 0 ? rows[count - 1].number : since;
        left -= count;
    } while (count > 0 && left > 0);
    *ret_result = STEAL_PTR(list);
    return 0;
}

/* All that are behind *since, which moves along. */
static int send_events(struct rpc_call *call, struct daemon *d, struct event_row *rows,
                       uint64_t *since, struct err *err)
{
    size_t count;

    do {
        if (store_event_list(d->store, *since, rows, BATCH, &count, err) < 0) {
            return -1;
        }
        for (size_t i = 0; i < count; i++) {
            if (!rpc_call_notify(call, "events.event", event_json(&rows[i]))) {
                log_info("a subscriber of events does not read them: cut after %llu",
                         (unsigned long long)*since);
                err_set(err, ERR_LIMIT, "events are not read as fast as they come: cut after %llu",
                        (unsigned long long)*since);
                return err_hint(err, "none is lost: go on with since %llu",
                                (unsigned long long)*since);
            }
            *since = rows[i].number;
        }
    } while (count > 0);
    return 0;
}

HANDLER(rpc_events_subscribe)
{
    _cleanup_free_ struct event_row *rows = x_calloc(BATCH, sizeof(*rows));
    uint64_t since = (uint64_t)api_int(params, "since");
    struct daemon *d = ctx;

    (void)ret_result;
    for (;;) {
        if (send_events(call, d, rows, &since, err) < 0 ||
            events_wait(d->events, since, rpc_call_cancel(call), err) < 0) {
            return -1;
        }
    }
}
