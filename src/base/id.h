/* Random 128-bit ids as 32 lower-case hex digits, or as UUIDs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_SIZE 33  /* with the terminating NUL */
#define ID_SHORT 12 /* digits shown to people */

#define UUID_SIZE 37    /* 36 characters and a NUL */
#define BOOT_ID_SIZE 40 /* for the kernel's /proc/sys/kernel/random/boot_id and a NUL */

/* Fills buf with len random bytes from getrandom(2); does not fail. */
void random_bytes(void *buf, size_t len);

/* Where owners get random bytes from, in their constructor: random_bytes. */
typedef void (*random_fn)(void *buf, size_t len);

void id_generate(char ret_id[ID_SIZE]);
void id_generate_from(random_fn random, char ret_id[ID_SIZE]);

/* A random UUID (version 4) as the kernel prints one: lower-case, 8-4-4-4-12. */
void id_generate_uuid(random_fn random, char ret_uuid[UUID_SIZE]);

/* 1 to 32 lower-case hex digits: an id, or a prefix of one. */
bool id_is_prefix(const char *s);
