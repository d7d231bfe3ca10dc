/* Listings that may be longer than a line of the protocol. */
#pragma once

#include "client/client.h"
#include "codec/json.h"

/* All VMs, or those that are not stopped, in pages. members: names separated by '|' of what is
 * wanted of each beside its id; NULL = all. The caller owns *ret_vms. */
int pages_list_vms(struct client *c, bool all, const char *members, json_t **ret_vms,
                   struct err *err);
