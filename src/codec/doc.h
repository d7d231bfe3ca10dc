/* For documents that are printed from tables: what does not fit is our mistake. */
#pragma once

#include "base/buf.h"

#include <stdlib.h>

#define PUT(out, ...)                                                                              \
    do {                                                                                           \
        if (buf_printf((out), __VA_ARGS__) < 0) {                                                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
