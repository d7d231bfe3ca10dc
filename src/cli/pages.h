/* Listings that may be longer than a line of the protocol. */
#pragma once

#include "client/client.h"
#include "codec/json.h"

/* All VMs, or those that are not stopped, oldest first and in pages, each of which is shown to fn
 * (an array, borrowed) while the daemon writes the next. members: names separated by '|' of what is
 * wanted of each beside its id; NULL = all. On failure some may have been shown. */
typedef void (*pages_fn)(void *arg, json_t *page);
int pages_each(struct client *c, bool all, const char *members, pages_fn fn, void *arg,
               struct err *err);

/* The same as one array. The caller owns *ret_vms. */
int pages_list_vms(struct client *c, bool all, const char *members, json_t **ret_vms,
                   struct err *err);
