/* Compiler attributes and ownership helpers. Header only, libc only: the guest agent uses it too.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _must_check_ __attribute__((warn_unused_result))
#define _noreturn_ __attribute__((noreturn))
#define _unused_ __attribute__((unused))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The text of a macro's value. */
#define STR_OF_TOKENS(x) #x
#define STR_OF(x) STR_OF_TOKENS(x)

/* Hand-over of ownership, visible at the place where it happens. */
#define STEAL_PTR(p)                                                                               \
    ({                                                                                             \
        __typeof__(p) *steal_p = &(p);                                                             \
        __typeof__(p) steal_v = *steal_p;                                                          \
        *steal_p = NULL;                                                                           \
        steal_v;                                                                                   \
    })
#define STEAL_FD(fd)                                                                               \
    ({                                                                                             \
        int *steal_p = &(fd);                                                                      \
        int steal_v = *steal_p;                                                                    \
        *steal_p = -1;                                                                             \
        steal_v;                                                                                   \
    })

/* Defines `name_p`, the cleanup function of a local of type T freed by f (which accepts NULL). */
#define DEFINE_CLEANUP(T, f)                                                                       \
    static inline void f##_p(T *p)                                                                 \
    {                                                                                              \
        if (*p) {                                                                                  \
            f(*p);                                                                                 \
        }                                                                                          \
    }                                                                                              \
    struct define_cleanup_##f##_semicolon

static inline void free_p(void *p)
{
    free(*(void **)p);
}

/* Closes *fd when it is open and sets it to -1; keeps errno. */
static inline void close_p(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

#define _cleanup_free_ _cleanup_(free_p)
#define _cleanup_close_ _cleanup_(close_p)
