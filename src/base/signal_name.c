#include "base/signal_name.h"

#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SIGNAL_MAX 64 /* of Linux; those of real time have no names */

int signal_parse(const char *text)
{
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    size_t digits = strspn(text, "0123456789");

    if (digits > 0 && digits <= 2 && text[digits] == '\0') {
        long number = strtol(text, NULL, 10);

        return number >= 1 && number <= SIGNAL_MAX ? (int)number : -EINVAL;
    }
    for (int number = 1; number <= SIGNAL_MAX; number++) {
        const char *known = sigabbrev_np(number);

        if (known && strcasecmp(known, name) == 0) {
            return number;
        }
    }
    return -EINVAL;
}
