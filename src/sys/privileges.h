/*
 * What this process may do beyond its uid: capabilities, and whether it may gain any. For before
 * the first thread; there is no way back. Capabilities are CAP_*, those that we do not have are not
 * gained. 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Drops all but these from the bounding set: with none of them there, not even a program that uid 0
 * executes gains one. Needs CAP_SETPCAP. */
int privileges_bound(const int *capabilities, size_t count);

/* Drops all but these from the other sets (inheritable and ambient are left empty), and sets
 * no_new_privs. */
int privileges_set(const int *capabilities, size_t count);

/* Whether this thread has it now. */
bool privileges_has(int capability);
