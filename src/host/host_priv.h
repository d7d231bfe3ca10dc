/* Shared by the files of host/ and their unit tests. */
#pragma once

#include "host/host.h"

/* FNV-1a. */
uint64_t host_hash(const char *text);

/* The absolute path of a program in our PATH, without symbolic links, or NULL. Free it. */
char *host_find_program(const char *name);
