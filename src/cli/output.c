#include "cli/output.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

#define CELL_MAX 200
#define WORDS_MAX 1024

/* Errors ----------------------------------------------------------------------------------------*/

/* A message may quote a guest. Lines stay lines, and are set off. */
static void put_message(const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        _cleanup_free_ char *safe = str_escape(text, len, len);

        (void)fprintf(stderr, "%s%s", safe, text[len] ? "\n  " : "");
        text += len + (text[len] == '\n');
    }
    (void)fputc('\n', stderr);
}

int out_error(const struct cli *cli, const struct client *c, const char *what,
              const struct err *err)
{
    flockfile(stderr); /* forward's connections tell theirs at the same time */
    (void)fputs("banger: ", stderr);
    if (what) {
        _cleanup_free_ char *safe = str_escape(what, strlen(what), CELL_MAX);

        (void)fprintf(stderr, "%s: ", safe);
    }
    put_message(err->message);
    if (err->hint[0]) {
        (void)fputs("hint: ", stderr);
        put_message(err->hint);
    }
    if (cli->debug && c && client_error_op(c)[0]) {
        (void)fputs("debug: operation ", stderr);
        put_message(client_error_op(c));
    }
    funlockfile(stderr);
    return EXIT_FAILED;
}

int out_usage(const struct cli *cli, const char *verb, struct err *err)
{
    if (!err->hint[0]) {
        err_hint(err, "see: banger%s%s --help", verb ? " " : "", verb ? verb : "");
    }
    (void)out_error(cli, NULL, NULL, err);
    return EXIT_USAGE;
}

/* JSON ------------------------------------------------------------------------------------------*/

static void put_json(const struct cli *cli, const json_t *value, size_t flags)
{
    /* jansson escapes control characters below 0x20; C1 ones are only safe as \u. */
    flags |= JSON_ENCODE_ANY | (cli->stdout_tty ? JSON_ENSURE_ASCII : 0);
    (void)json_dumpf(value, stdout, flags);
    (void)fputc('\n', stdout);
}

void out_json(const struct cli *cli, const json_t *value)
{
    if (cli->format == FORMAT_JSONL) {
        put_json(cli, value, JSON_COMPACT);
    } else {
        put_json(cli, value, JSON_INDENT(2));
    }
}

/* Text ------------------------------------------------------------------------------------------*/

/* How many bytes at the end of a piece mean nothing alone: a carriage return, or the beginning of a
 * character. */
static size_t undecided(const char *text, size_t len)
{
    for (size_t n = 1; n <= 3 && n <= len; n++) {
        unsigned char c = (unsigned char)text[len - n];

        if (c < 0x80) {
            return n == 1 && c == '\r' ? 1 : 0;
        }
        if (c >= 0xC0) {
            size_t whole = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;

            return whole > n ? n : 0;
        }
    }
    return 0;
}

static void put_lines(struct out_text *t, const char *text, size_t len)
{
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t line = end ? (size_t)(end - text) : len;
        size_t shown = end && line > 0 && text[line - 1] == '\r' ? line - 1 : line;
        _cleanup_free_ char *safe = str_escape(text, shown, shown);

        (void)fputs(safe, stdout);
        if (end) {
            (void)putchar('\n');
        }
        t->midline = !end;
        line += end != NULL;
        text += line;
        len -= line;
    }
}

void out_text(struct out_text *t, const char *text, size_t len)
{
    _cleanup_free_ char *all = NULL;
    size_t hold;

    if (!t->escape) {
        (void)fwrite(text, 1, len, stdout);
        return;
    }
    all = x_calloc(1, t->held_len + len + 1);
    memcpy(all, t->held, t->held_len);
    memcpy(all + t->held_len, text, len);
    len += t->held_len;
    hold = undecided(all, len);
    put_lines(t, all, len - hold);
    memcpy(t->held, all + len - hold, hold);
    t->held_len = hold;
}

void out_text_end(struct out_text *t)
{
    if (t->held_len > 0) {
        /* A carriage return at the end is that of a line's end. */
        put_lines(t, t->held, t->held[0] == '\r' ? 0 : t->held_len);
        t->held_len = 0;
    }
    if (t->midline) {
        (void)putchar('\n');
        t->midline = false;
    }
}

void out_guest_text(const struct cli *cli, const char *text, size_t len)
{
    struct out_text t = {.escape = cli->stdout_tty};

    out_text(&t, text, len);
    out_text_end(&t);
}

char *out_size(long long bytes)
{
    static const char units[] = "BKMGTP";
    double v = (double)bytes;
    size_t unit = 0;

    while (v >= 1024 && unit + 2 < sizeof(units)) {
        v /= 1024;
        unit++;
    }
    if (unit == 0) {
        return x_asprintf("%lldB", bytes);
    }
    if (v == (double)(long long)v) {
        return x_asprintf("%lld%c", (long long)v, units[unit]); /* quicker */
    }
    return x_asprintf(v < 10 ? "%.1f%c" : "%.0f%c", v, units[unit]);
}

char *out_age(const char *rfc3339, int64_t now_ms)
{
    static const struct {
        const char *unit;
        int64_t seconds;
    } units[] = {{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}};
    int64_t then_ms, age;

    if (!rfc3339 || clock_parse_rfc3339(rfc3339, &then_ms) < 0) {
        return NULL;
    }
    age = now_ms / 1000 - then_ms / 1000;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (age >= units[i].seconds) {
            return x_asprintf("%lld %s ago", (long long)(age / units[i].seconds), units[i].unit);
        }
    }
    return x_strdup("now");
}

char *out_words(const json_t *array)
{
    struct buf text;
    const json_t *word;
    size_t i;

    buf_init(&text, WORDS_MAX);
    json_array_foreach ((json_t *)array, i, word) {
        _cleanup_free_ char *bytes = NULL;
        size_t len;

        if (json_bytes_get(word, &bytes, &len) < 0 ||
            buf_printf(&text, "%s%.*s", i ? " " : "", (int)(len < WORDS_MAX ? len : WORDS_MAX),
                       bytes) < 0) {
            break;
        }
    }
    return buf_steal_str(&text);
}

/* Listings --------------------------------------------------------------------------------------*/

static const char *row_id(const json_t *row)
{
    return json_str(row, "id", json_str(row, "digest", json_str(row, "key", "")));
}

char *cell_id(const json_t *row)
{
    const char *id = row_id(row);
    const char *colon = strchr(id, ':');

    return x_strndup(colon ? colon + 1 : id, ID_SHORT);
}

char *cell_name(const json_t *row)
{
    const char *name = json_str(row, "name", NULL);

    return name ? x_strdup(name) : out_words(json_object_get(row, "names"));
}

char *cell_state(const json_t *row)
{
    return x_strdup(json_str(row, "state", NULL));
}

char *cell_created(const json_t *row)
{
    return out_age(json_str(row, "created_at", NULL), clock_real_ms());
}

struct out_rows {
    struct table table;
    size_t room; /* cells that fit into the table's array */
};

struct out_rows *out_rows_new(const struct out_column *columns, size_t count)
{
    struct out_rows *rows = x_calloc(1, sizeof(*rows));

    rows->table = (struct table){.columns = columns, .count = count};
    return rows;
}

void out_rows_free(struct out_rows *rows)
{
    if (rows) {
        for (size_t i = 0; i < rows->table.rows * rows->table.count; i++) {
            free(rows->table.cells[i]);
        }
        free(rows->table.cells);
        free(rows);
    }
}

static void add_row(struct table *t, const json_t *row)
{
    for (size_t c = 0; c < t->count; c++) {
        const struct out_column *column = &t->columns[c];
        _cleanup_free_ char *text = column->cell(row);
        size_t len = text ? strlen(text) : 0;

        t->cells[t->rows * t->count + c] =
            str_escape(text ? text : "", len, table_is_whole(column) ? len : CELL_MAX);
    }
    t->rows++;
}

void out_rows_add(struct out_rows *rows, const json_t *array)
{
    struct table *t = &rows->table;
    size_t want = (t->rows + json_array_size(array)) * t->count;
    const json_t *row;
    size_t i;

    if (want > rows->room) {
        rows->room = want > 2 * rows->room ? want : 2 * rows->room;
        t->cells = reallocarray(t->cells, rows->room, sizeof(*t->cells));
        if (!t->cells) {
            abort();
        }
    }
    json_array_foreach ((json_t *)array, i, row) {
        add_row(t, row);
    }
}

void out_rows_print(const struct cli *cli, struct out_rows *rows)
{
    _cleanup_free_ bool *shown = x_calloc(rows->table.count, sizeof(*shown));

    table_fit(&rows->table, table_width(cli), shown);
    table_print(&rows->table, shown);
}

static void put_table(const struct cli *cli, const json_t *array, const struct out_column *columns,
                      size_t count)
{
    _cleanup_(out_rows_free_p) struct out_rows *rows = out_rows_new(columns, count);

    out_rows_add(rows, array);
    out_rows_print(cli, rows);
}

int out_list(const struct cli *cli, const json_t *rows, const struct out_column *columns,
             size_t count)
{
    const json_t *row;
    size_t i;

    if (cli->quiet) {
        json_array_foreach ((json_t *)rows, i, row) {
            (void)puts(row_id(row));
        }
    } else if (cli->format == FORMAT_JSON) {
        out_json(cli, rows);
    } else if (cli->format == FORMAT_JSONL) {
        json_array_foreach ((json_t *)rows, i, row) {
            out_json(cli, row);
        }
    } else {
        put_table(cli, rows, columns, count);
    }
    return 0;
}

/* Objects ---------------------------------------------------------------------------------------*/

static bool is_empty(const json_t *value)
{
    return json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static void put_member(const char *prefix, const char *key, const json_t *value)
{
    _cleanup_free_ char *name = x_asprintf("%s%s", prefix, key);
    _cleanup_free_ char *safe_name = str_escape(name, strlen(name), CELL_MAX);
    _cleanup_free_ char *text = NULL;
    _cleanup_free_ char *safe = NULL;
    const char *inner;
    json_t *member;

    if (json_is_object(value) && json_object_size(value) > 0) {
        _cleanup_free_ char *below = x_asprintf("%s.", name);

        json_object_foreach ((json_t *)value, inner, member) {
            put_member(below, inner, member);
        }
        return;
    }
    if (is_empty(value)) {
        return;
    }
    text = json_is_string(value) ? x_strdup(json_string_value(value)) : json_print(value);
    safe = str_escape(text, strlen(text), strlen(text));
    (void)printf("%-16s %s\n", safe_name, safe);
}

int out_object(const struct cli *cli, const json_t *object)
{
    const char *key;
    json_t *value;

    if (cli->format != FORMAT_TABLE) {
        out_json(cli, object);
        return 0;
    }
    json_object_foreach ((json_t *)object, key, value) {
        put_member("", key, value);
    }
    return 0;
}
