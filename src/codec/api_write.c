#include "codec/api_write.h"

#include "base/str.h"
#include "codec/api_priv.h"

#include <assert.h>
#include <string.h>

/* What ends the whole must always fit. */
#define END_ROOM 1

static const char word[] = "member";

static struct api_level *top(struct api_writer *w)
{
    return &w->levels[w->depth - 1];
}

/* Text ------------------------------------------------------------------------------------------*/

static void put(struct api_writer *w, const char *text, size_t len)
{
    if (!w->full && (buf_room(w->out) < len + END_ROOM || buf_append(w->out, text, len) < 0)) {
        w->full = true;
    }
}

/* How much of the text may stand between quotes as it is. */
static size_t plain(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && (unsigned char)text[n] >= 0x20 && text[n] != '"' && text[n] != '\\') {
        n++;
    }
    return n;
}

/* One byte that may not. */
static void put_escaped(struct api_writer *w, char c)
{
    static const char controls[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    char text[8];

    for (size_t i = 0; i + 1 < sizeof(controls); i += 2) {
        if (controls[i] == c) {
            put(w, (char[]){'\\', controls[i + 1]}, 2);
            return;
        }
    }
    (void)snprintf(text, sizeof(text), "\\u%04X", (unsigned)(unsigned char)c);
    put(w, text, 6);
}

static void put_quoted(struct api_writer *w, const char *text, size_t len)
{
    put(w, "\"", 1);
    while (len > 0) {
        size_t n = plain(text, len);

        put(w, text, n);
        if (n < len) {
            put_escaped(w, text[n++]);
        }
        text += n;
        len -= n;
    }
    put(w, "\"", 1);
}

static void put_int(struct api_writer *w, long long value)
{
    char digits[24];
    char *p = digits + sizeof(digits);
    unsigned long long v = value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;

    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    if (value < 0) {
        *--p = '-';
    }
    put(w, p, (size_t)(digits + sizeof(digits) - p));
}

/* The table -------------------------------------------------------------------------------------*/

static bool is_broken(const struct api_writer *w)
{
    return w->broken.code != ERR_NONE;
}

/* Whether anything is to be written now. */
static bool is_idle(const struct api_writer *w)
{
    return w->passing > 0 || is_broken(w);
}

static const struct api_param *find(struct api_level *l, const char *key)
{
    const struct api_param *p = &l->members[l->next];

    /* Members come in the order of the table, most of the time. */
    if (!p->name || !str_eq(p->name, key)) {
        p = api_member_find(l->members, key);
    }
    l->next = p ? (size_t)(p - l->members) + 1 : l->next;
    return p;
}

/* Whether the member is written; else it is passed over. */
static bool is_wanted(const struct api_writer *w, size_t index)
{
    if (!w->result->list || w->depth < 2 || w->depth > 3) {
        return true;
    }
    if (w->depth == 2) {
        return w->wanted >> index & 1;
    }
    return w->wanted_in[w->levels[2].spec - w->levels[1].members] >> index & 1;
}

/* The row of a member that is about to be written, behind its key; NULL when nothing is to be
 * written. */
static const struct api_param *begin_member(struct api_writer *w, const char *key)
{
    const struct api_param *spec;
    struct api_level *l;
    uint64_t bit;

    if (is_idle(w)) {
        return NULL;
    }
    assert(w->depth > 0 && top(w)->members);
    l = top(w);
    spec = find(l, key);
    if (!spec) {
        err_set(&w->broken, ERR_INVALID, "unknown member '%s' of '%s'", key, l->object->name);
        return NULL;
    }
    bit = 1ull << (spec - l->members);
    if (l->seen & bit) {
        err_set(&w->broken, ERR_INVALID, "member '%s' of '%s' twice", key, l->object->name);
        return NULL;
    }
    l->seen |= bit;
    if (!is_wanted(w, (size_t)(spec - l->members))) {
        return NULL;
    }
    if (l->count++ > 0) {
        put(w, ",", 1);
    }
    put(w, "\"", 1);
    put(w, key, strlen(key));
    put(w, "\":", 2);
    return spec;
}

static void check_complete(struct api_writer *w, const struct api_level *l)
{
    for (size_t i = 0; l->members[i].name && !is_broken(w); i++) {
        if (l->members[i].required && is_wanted(w, i) && !(l->seen >> i & 1)) {
            err_set(&w->broken, ERR_INVALID, "member '%s' of '%s' is missing", l->members[i].name,
                    l->object->name);
        }
    }
}

/* Levels ----------------------------------------------------------------------------------------*/

static void push(struct api_writer *w, const struct api_object *object,
                 const struct api_param *spec, bool list)
{
    assert(w->depth < API_WRITE_DEPTH && (list || object->members));
    w->levels[w->depth++] = (struct api_level){
        .members = list ? NULL : object->members, .spec = spec, .object = object};
    put(w, list ? "[" : "{", 1);
}

static void want(struct api_writer *w, const char *entry)
{
    const struct api_object *o = w->result->object;
    const struct api_param *member = NULL, *inner = NULL;
    size_t index;

    if (!api_members_find(o, entry, &member, &inner)) {
        abort(); /* names are checked before they come here */
    }
    index = (size_t)(member - o->members);
    assert(index < ARRAY_LEN(w->wanted_in));
    w->wanted |= 1ull << index;
    w->wanted_in[index] |= inner ? 1ull << (inner - member->object->members) : UINT64_MAX;
}

void api_write_begin(struct api_writer *w, struct buf *out, const struct api_method *m,
                     const json_t *members)
{
    const struct api_result *result = &m->result;
    const json_t *name;
    size_t i;

    assert(!members || result->partial);
    *w = (struct api_writer){.out = out, .method = m, .result = result};
    if (members) {
        want(w, "id");
    } else {
        w->wanted = UINT64_MAX;
        memset(w->wanted_in, 0xff, sizeof(w->wanted_in));
    }
    json_array_foreach ((json_t *)members, i, name) {
        want(w, json_string_value(name));
    }
    if (result->list) {
        push(w, result->object, NULL, true);
    }
    w->fitting = out->len;
}

int api_write_end(struct api_writer *w, struct err *err)
{
    if (w->result->list && !is_broken(w)) {
        assert(w->depth == 1 && w->passing == 0);
        /* There is room: put has kept it. */
        w->full = w->full || buf_append(w->out, "]", 1) < 0;
        w->depth--;
    }
    if (is_broken(w)) {
        *err = w->broken;
        return api_broken("reply to", w->method->name, err);
    }
    assert(w->depth == 0 && w->passing == 0 && (w->whole || w->result->list));
    return w->full ? err_set(err, ERR_LIMIT, "the reply to '%s' is longer than a line may be",
                             w->method->name)
                   : 0;
}

void api_write_open(struct api_writer *w, const char *key)
{
    const struct api_object *object = w->result->object;
    const struct api_param *spec = NULL;

    if (is_idle(w)) {
        w->passing += w->passing > 0;
        return;
    }
    if (key) {
        spec = begin_member(w, key);
        if (!spec) {
            w->passing += !is_broken(w);
            return;
        }
        if (spec->type != API_OBJECT) {
            (void)api_must(spec, word, &w->broken, api_type_name(spec->type));
            return;
        }
        object = spec->object;
    } else if (w->depth > 0) {
        assert(!top(w)->members);
        object = top(w)->object;
        put(w, ",", top(w)->count++ > 0);
    }
    push(w, object, spec, false);
}

void api_write_close(struct api_writer *w)
{
    if (is_idle(w)) {
        w->passing -= w->passing > 0;
        return;
    }
    assert(top(w)->members);
    check_complete(w, top(w));
    put(w, "}", 1);
    w->whole = --w->depth == 0 || w->whole;
}

void api_write_open_list(struct api_writer *w, const char *key)
{
    const struct api_param *spec;

    if (is_idle(w)) {
        w->passing += w->passing > 0;
        return;
    }
    spec = begin_member(w, key);
    if (!spec) {
        w->passing += !is_broken(w);
    } else if (spec->type != API_LIST) {
        (void)api_must(spec, word, &w->broken, api_type_name(spec->type));
    } else {
        push(w, spec->object, spec, true);
    }
}

void api_write_close_list(struct api_writer *w)
{
    if (is_idle(w)) {
        w->passing -= w->passing > 0;
        return;
    }
    assert(w->depth > 1 && !top(w)->members);
    (void)api_check_length(top(w)->spec, word, top(w)->count, "entries", &w->broken);
    put(w, "]", 1);
    w->depth--;
}

bool api_write_fits(struct api_writer *w)
{
    assert(w->result->list && (w->depth == 1 || is_broken(w)));
    if (w->full) {
        w->out->len = w->fitting;
        w->full = false;
        return false;
    }
    w->fitting = w->out->len;
    return true;
}

/* Members ---------------------------------------------------------------------------------------*/

bool api_write_wants(const struct api_writer *w, const char *key)
{
    const struct api_object *o = w->result->object;
    const struct api_param *spec = api_member_find(o->members, key);

    assert(spec);
    return w->wanted >> (spec - o->members) & 1;
}

void api_write_null(struct api_writer *w, const char *key)
{
    const struct api_param *spec = begin_member(w, key);

    if (spec && !spec->nullable) {
        (void)api_must(spec, word, &w->broken, api_type_name(spec->type));
    } else if (spec) {
        put(w, "null", 4);
    }
}

void api_write_str(struct api_writer *w, const char *key, const char *text_or_null)
{
    _cleanup_free_ char *safe = NULL;
    const struct api_param *spec;
    const char *text = text_or_null;
    size_t len;

    if (!text) {
        api_write_null(w, key);
        return;
    }
    spec = begin_member(w, key);
    if (!spec) {
        return;
    }
    len = strlen(text);
    if (!str_is_utf8(text, len)) {
        text = safe = str_escape(text, len, len);
        len = strlen(text);
    }
    if (api_check_text(spec, word, text, len, &w->broken) == 0) {
        put_quoted(w, text, len);
    }
}

void api_write_int(struct api_writer *w, const char *key, long long value)
{
    const struct api_param *spec = begin_member(w, key);

    if (!spec) {
        return;
    }
    if (spec->type == API_SCALAR ||
        (spec->type == API_INT && api_check_int(spec, word, value, &w->broken) == 0)) {
        put_int(w, value);
    } else if (!is_broken(w)) {
        (void)api_must(spec, word, &w->broken, api_type_name(spec->type));
    }
}

void api_write_bool(struct api_writer *w, const char *key, bool value)
{
    const struct api_param *spec = begin_member(w, key);

    if (!spec) {
        return;
    }
    if (spec->type == API_BOOL || spec->type == API_SCALAR) {
        put(w, value ? "true" : "false", value ? 4 : 5);
    } else {
        (void)api_must(spec, word, &w->broken, api_type_name(spec->type));
    }
}

static int put_piece(const char *text, size_t len, void *arg)
{
    put(arg, text, len);
    return 0;
}

void api_write_json(struct api_writer *w, const char *key, const json_t *value)
{
    const struct api_param *spec = begin_member(w, key);

    if (spec && api_check_value(spec, word, value, &w->broken) == 0 &&
        json_dump_callback(value, put_piece, w, JSON_COMPACT | JSON_ENCODE_ANY) < 0) {
        abort();
    }
}
