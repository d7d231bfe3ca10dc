/*
 * Functions that must not be used; forced into every translation unit by the build (-include). The
 * replacement stands beside each. Kept free of other includes, so that it may come first.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf

#pragma GCC poison strcpy strcat strncpy strncat  /* snprintf, str_*, buf_* */
#pragma GCC poison sprintf vsprintf gets          /* snprintf, buf_printf */
#pragma GCC poison strtok                         /* strtok_r, strsep, str_split */
#pragma GCC poison atoi atol atoll                /* str_to_u64, str_to_i64 */
#pragma GCC poison system popen                   /* spawn_process */
#pragma GCC poison tmpnam tempnam mktemp          /* fs_write_atomic, mkostemp */
#pragma GCC poison asctime ctime gmtime localtime /* clock_format_rfc3339, gmtime_r */
#pragma GCC poison usleep sleep                   /* wait on an event with a deadline */
