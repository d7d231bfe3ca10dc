/* Random 128-bit ids as 32 lower-case hex digits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_SIZE 33  /* with the terminating NUL */
#define ID_SHORT 12 /* digits shown to people */

#define BOOT_ID_SIZE 40 /* for the kernel's /proc/sys/kernel/random/boot_id and a NUL */

/* Fills buf with len random bytes from getrandom(2); does not fail. */
void random_bytes(void *buf, size_t len);

/* Where owners get random bytes from, in their constructor: random_bytes. */
typedef void (*random_fn)(void *buf, size_t len);

void id_generate(char ret_id[ID_SIZE]);
void id_generate_from(random_fn random, char ret_id[ID_SIZE]);

/* 1 to 32 lower-case hex digits: an id, or a prefix of one. */
bool id_is_prefix(const char *s);
