#include "cli/table.h"

#include "base/str.h"

#include <langinfo.h>
#include <libsmartcols/libsmartcols.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#define DEFAULT_WIDTH 80
#define WIDTH_MAX 10000
#define CUT_MIN 6 /* a cell that is cut shorter than this says nothing */

size_t table_width(const struct cli *cli)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size = {0};
    uint64_t width = 0;

    if (columns && str_to_u64(columns, WIDTH_MAX, &width) == 0 && width > 0) {
        return width;
    }
    if (!cli->stdout_tty) {
        return 0;
    }
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return DEFAULT_WIDTH;
}

/* Cells are UTF-8 whatever the locale, and are counted and printed as that. What stands for the
 * rest of a cell, in what the terminal can show. */
static const char *set_locale(void)
{
    bool utf8 = setlocale(LC_CTYPE, "") && str_eq(nl_langinfo(CODESET), "UTF-8");

    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        (void)setlocale(LC_CTYPE, "");
    }
    return utf8 ? "\u2026" : "~";
}

/* Bytes of text that fit into max columns of a terminal, and how many columns they take. */
static size_t fitting(const char *text, size_t max, size_t *ret_width)
{
    mbstate_t state = {0};
    size_t used = 0, at = 0, len = strlen(text);

    /* ASCII, which most cells are in whole; a character that joins the last one is still that. */
    while (at < len && used < max && text[at] >= ' ' && text[at] <= '~') {
        at++;
        used++;
    }
    while (at < len) {
        wchar_t c;
        size_t n = mbrtowc(&c, text + at, len - at, &state);
        int width = n <= len - at ? wcwidth(c) : -1;

        if (n > len - at) {
            n = 1; /* no UTF-8 locale here: bytes */
            state = (mbstate_t){0};
        }
        if (used + (size_t)(width < 0 ? 1 : width) > max) {
            break;
        }
        used += (size_t)(width < 0 ? 1 : width);
        at += n;
    }
    *ret_width = used;
    return at;
}

static size_t text_width(const char *text)
{
    size_t width;

    (void)fitting(text, SIZE_MAX / 2, &width);
    return width;
}

bool table_is_whole(const struct out_column *column)
{
    return (column->flags & OUT_WHOLE) || column->cell == cell_id || column->cell == cell_name;
}

static size_t natural_width(const struct table *t, size_t column)
{
    size_t width = text_width(t->columns[column].title);

    for (size_t r = 0; r < t->rows; r++) {
        size_t cell = text_width(t->cells[r * t->count + column]);

        width = cell > width ? cell : width;
    }
    return width;
}

/* A line's width: the columns that are shown, and a space between them. */
static size_t line_width(const struct table *t, const size_t *widths, const bool *shown)
{
    size_t sum = 0;

    for (size_t c = 0; c < t->count; c++) {
        sum += shown[c] ? widths[c] + (sum > 0) : 0;
    }
    return sum;
}

/* The least that the column may be cut to. */
static size_t least_width(const struct out_column *c, size_t natural)
{
    size_t title = strlen(c->title);
    size_t least = title > CUT_MIN ? title : CUT_MIN;

    return table_is_whole(c) || natural < least ? natural : least;
}

/* Takes columns off the widest one that can give some, one by one. False when none can. */
static bool narrow(const struct table *t, size_t *widths, const bool *shown, const size_t *least)
{
    size_t widest = t->count;

    for (size_t c = 0; c < t->count; c++) {
        if (shown[c] && widths[c] > least[c] &&
            (widest == t->count || widths[c] > widths[widest])) {
            widest = c;
        }
    }
    if (widest == t->count) {
        return false;
    }
    widths[widest]--;
    return true;
}

/* Leaves out the last column that may be. */
static bool leave_out(const struct table *t, bool *shown)
{
    for (size_t c = t->count; c-- > 0;) {
        if (shown[c] && !table_is_whole(&t->columns[c])) {
            shown[c] = false;
            return true;
        }
    }
    return false;
}

static void cut_cells(struct table *t, size_t column, size_t width, const char *ellipsis)
{
    for (size_t r = 0; r < t->rows; r++) {
        char **cell = &t->cells[r * t->count + column];
        size_t used, bytes;

        if (text_width(*cell) > width) {
            char *cut;

            bytes = fitting(*cell, width - 1, &used);
            cut = x_asprintf("%.*s%s", (int)bytes, *cell, ellipsis);
            free(*cell);
            *cell = cut;
        }
    }
}

/* Whether the C locale, which is there without reading files, is enough. */
static bool is_plain(const struct table *t)
{
    for (size_t i = 0; i < t->rows * t->count; i++) {
        for (const char *p = t->cells[i]; *p; p++) {
            if ((unsigned char)*p >= 0x80) {
                return false;
            }
        }
    }
    return true;
}

void table_fit(struct table *t, size_t width, bool *ret_shown)
{
    const char *ellipsis = width == 0 && is_plain(t) ? NULL : set_locale();
    _cleanup_free_ size_t *natural = x_calloc(t->count, sizeof(*natural));
    _cleanup_free_ size_t *least = x_calloc(t->count, sizeof(*least));
    _cleanup_free_ size_t *widths = x_calloc(t->count, sizeof(*widths));

    for (size_t c = 0; c < t->count; c++) {
        ret_shown[c] = true;
    }
    if (width == 0) {
        return;
    }
    for (size_t c = 0; c < t->count; c++) {
        natural[c] = natural_width(t, c);
        least[c] = least_width(&t->columns[c], natural[c]);
    }
    while (line_width(t, least, ret_shown) > width && leave_out(t, ret_shown)) {
    }
    memcpy(widths, natural, t->count * sizeof(*widths));
    while (line_width(t, widths, ret_shown) > width && narrow(t, widths, ret_shown, least)) {
    }
    for (size_t c = 0; c < t->count; c++) {
        if (widths[c] < natural[c]) {
            cut_cells(t, c, widths[c], ellipsis);
        }
    }
}

static void put_header(const struct table *t, const bool *shown)
{
    const char *space = "";

    for (size_t c = 0; c < t->count; c++) {
        if (shown[c]) {
            (void)printf("%s%s", space, t->columns[c].title);
            space = " ";
        }
    }
    (void)putchar('\n');
}

/* libsmartcols measures each cell twice, character by character. A column that wraps in a way of
 * its own is asked once how wide its cells are, which is quicker; and ours do not wrap. */
static size_t measure(const struct libscols_column *column, const char *text, void *arg)
{
    (void)column;
    (void)arg;
    return text_width(text);
}

static char *wrap_nothing(const struct libscols_column *column, char *text, void *arg)
{
    (void)column;
    (void)text;
    (void)arg;
    return NULL;
}

static void add_column(struct libscols_table *table, const struct out_column *column)
{
    int flags = SCOLS_FL_WRAP | (column->flags & OUT_RIGHT ? SCOLS_FL_RIGHT : 0);
    struct libscols_column *c = scols_table_new_column(table, column->title, 0, flags);

    if (!c || scols_column_set_wrapfunc(c, measure, wrap_nothing, NULL) < 0) {
        abort();
    }
}

void table_print(struct table *t, const bool *shown)
{
    struct libscols_table *table;

    /* libsmartcols prints nothing at all for a table without lines. */
    if (t->rows == 0) {
        put_header(t, shown);
        return;
    }
    table = scols_new_table();
    if (!table) {
        abort();
    }
    scols_table_enable_noencoding(table, 1); /* cells are escaped already */
    /* The width is our concern: it would cut what must stay whole. */
    (void)scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
    for (size_t c = 0; c < t->count; c++) {
        if (shown[c]) {
            add_column(table, &t->columns[c]);
        }
    }
    for (size_t r = 0; r < t->rows; r++) {
        struct libscols_line *line = scols_table_new_line(table, NULL);

        for (size_t c = 0, n = 0; line && c < t->count; c++) {
            char **cell = &t->cells[r * t->count + c];

            if (shown[c] && scols_line_refer_data(line, n++, STEAL_PTR(*cell)) < 0) {
                abort();
            }
        }
    }
    (void)scols_print_table(table);
    scols_unref_table(table);
}
