/*
 * The guest's name: the kernel's, /etc/hostname for its init, and a line in /etc/hosts. Threads:
 * one.
 */
#pragma once

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

#define HOSTNAME_LEN_MAX 63 /* the kernel's 64 has room for one more; a DNS label has not */
#define HOSTNAME_DEFAULT "banger"

/* Labels of letters, digits and inner hyphens, separated by dots; HOSTNAME_LEN_MAX bytes in all. */
bool hostname_valid(const uint8_t *name, size_t len);

/* Sets it, and makes /etc/hosts and /etc/hostname know it. 0 or -errno; a read-only /etc is no
 * failure. */
int hostname_set(const char *name) _must_check_;

/* The new content of a hosts file that knows the name, or NULL when the old one does. The caller
 * frees it. */
char *hostname_hosts(const char *old, const char *name);
