/*
 * /etc/machine-id of the guest, machine-id(5): 32 lower-case hex digits and a newline.
 * Threads: one. 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_ID_LEN 32

bool machine_id_valid(const uint8_t *id, size_t len);

/* Writes it where it is not so already. */
int machine_id_set(const char id[MACHINE_ID_LEN + 1]);

/* What stands there: -ENODATA when it is no id. */
int machine_id_get(char ret_id[MACHINE_ID_LEN + 1]);
