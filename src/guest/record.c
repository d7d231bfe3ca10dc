/* What the daemon writes down of a session for the daemon after it, kept by the guest's agent: JSON
 * of at most FRAME_RECORD_MAX bytes. It comes back from a guest, which may have changed it. */
#include "guest/guest_priv.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/api.h"

#include <assert.h>
#include <string.h>

/* As printed, where every byte may take six. The rest of a record is less than 1,200. */
#define COMMAND_MAX 2048
#define CWD_MAX 768

static size_t printed_len(const json_t *value)
{
    _cleanup_free_ char *text = json_print(value);

    return strlen(text);
}

/* The longest beginning of a text that takes at most `room` bytes when printed; or NULL. */
static json_t *beginning(const json_t *value, size_t room)
{
    const char *text = json_string_value(value);
    size_t len = text ? strnlen(text, room) : 0;

    for (; len > 0; len--) {
        _cleanup_json_ json_t *piece = json_stringn(text, len); /* NULL inside of a character */

        if (piece && printed_len(piece) <= room) {
            return json_incref(piece);
        }
    }
    return NULL;
}

/* As much of the command as fits. */
static json_t *short_command(const json_t *command, bool *ret_shortened)
{
    json_t *list = json_array();
    size_t room = COMMAND_MAX - 2; /* the brackets */
    const json_t *arg;
    size_t i;

    json_array_foreach (command, i, arg) {
        size_t len = printed_len(arg) + 1;
        json_t *piece;

        if (len <= room) {
            json_array_append_new(list, json_deep_copy(arg));
            room -= len;
            continue;
        }
        piece = room > 3 ? beginning(arg, room - 1) : NULL;
        if (piece) {
            json_array_append_new(list, piece);
        }
        *ret_shortened = true;
        break;
    }
    return list;
}

char *session_record_encode(const struct session *s)
{
    _cleanup_json_ json_t *o = json_object();
    json_t *spec = json_object();
    const json_t *cwd = json_object_get(s->spec, "cwd"), *tty = json_object_get(s->spec, "tty");
    bool shortened = s->shortened;
    char *text;

    json_put(spec, "command", short_command(json_object_get(s->spec, "command"), &shortened));
    if (cwd && printed_len(cwd) <= CWD_MAX) {
        json_put(spec, "cwd", json_deep_copy(cwd));
    }
    json_put_str(spec, "user", api_str(s->spec, "user"));
    json_put_str(spec, "stdin", api_str(s->spec, "stdin"));
    if (tty) {
        json_put(spec, "tty", json_deep_copy(tty));
    }
    json_put_str(o, "id", s->id);
    json_put_int(o, "started_ms", s->started_ms);
    json_put_bool(o, "main", s->main);
    json_put_bool(o, "hold", s->hold);
    json_put_bool(o, "drain", s->drain);
    json_put_bool(o, "shortened", shortened);
    json_put(o, "spec", spec);
    text = json_print(o);
    assert(strlen(text) <= FRAME_RECORD_MAX);
    return text;
}

static bool is_id(const char *s)
{
    return s && strlen(s) == ID_SIZE - 1 && id_is_prefix(s);
}

/* The spec as session.start would have got it, or NULL when it would have refused it. */
static json_t *take_spec(const json_t *spec)
{
    const struct api_method *start = api_method_find("session.start");
    _cleanup_json_ json_t *params = json_deep_copy(spec);
    struct err ignored;

    if (!json_is_object(params) || json_object_get(params, "env") ||
        json_object_get(params, "hold") || json_object_get(params, "vm")) {
        return NULL;
    }
    json_put_str(params, "vm", "any");
    if (api_validate(start, params, &ignored) < 0) {
        return NULL;
    }
    api_fill_defaults(start, params);
    (void)json_object_del(params, "vm");
    (void)json_object_del(params, "hold");
    return STEAL_PTR(params);
}

void session_record_parse(const void *data, size_t len, int64_t now_ms, struct session_record *ret)
{
    _cleanup_json_ json_t *o = NULL;
    struct err ignored;

    *ret = (struct session_record){.started_ms = now_ms};
    if (len > 0 && len <= FRAME_RECORD_MAX && json_parse(data, len, &o, &ignored) == 0 &&
        is_id(json_str(o, "id", NULL))) {
        ret->spec = take_spec(json_object_get(o, "spec"));
    }
    if (!ret->spec) {
        _cleanup_json_ json_t *unknown = json_object();

        json_put(unknown, "command", json_array());
        ret->spec = take_spec(unknown);
        return;
    }
    memcpy(ret->id, json_str(o, "id", ""), ID_SIZE);
    ret->started_ms = json_int(o, "started_ms", 0);
    if (ret->started_ms <= 0 || ret->started_ms > now_ms) {
        ret->started_ms = now_ms;
    }
    ret->main = json_flag(o, "main", false);
    ret->hold = json_flag(o, "hold", false);
    ret->drain = json_flag(o, "drain", false);
    ret->shortened = json_flag(o, "shortened", false);
}
