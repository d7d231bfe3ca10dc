/* Fitting a table into a width. */
#pragma once

#include "cli/output.h"

/* Columns of the terminal that stdout is, or what COLUMNS says; 0 = there is no limit. */
size_t table_width(const struct cli *cli);

struct table {
    const struct out_column *columns;
    size_t count;
    char **cells; /* count a row, allocated, safe to print, UTF-8 */
    size_t rows;
};

/* Whether the column's cells are never cut. */
bool table_is_whole(const struct out_column *column);

/* Cuts cells, and leaves columns out at the right, until a line needs at most width columns of a
 * terminal (0 = any). Ids, names and columns marked whole are kept as they are, also when they
 * alone are wider. ret_shown has count members; cells may be replaced. */
void table_fit(struct table *t, size_t width, bool *ret_shown);

/* Prints the columns that are shown, whose cells are used up. */
void table_print(struct table *t, const bool *shown);
