/*
 * nf_tables as far as it changes while VMs run: elements of sets, in one transaction, over netlink
 * (linux/netfilter/nf_tables.h; libnftables, which would do it as well, is GPL). Tables are loaded
 * by the program nft.
 */
#pragma once

#include "sys/netlink.h"

#include <net/if.h>
#include <stdbool.h>

/* An interface's name, and an address. */
#define NFT_KEY_MAX (IFNAMSIZ + 16U)
/* Of one transaction; each takes two requests at most, and begin and end one each. */
#define NFT_ELEMENTS_MAX ((NETLINK_BATCH_MAX - 2) / 2)

/* NFPROTO_* of linux/netfilter.h, which cannot be included beside the C library's headers. */
enum nft_family {
    NFT_INET = 1,
    NFT_ARP = 3,
};

struct nft_element {
    enum nft_family family;
    const char *table, *set;
    uint8_t key[NFT_KEY_MAX]; /* as the set's type has it: of parts that are multiples of 4 bytes */
    size_t key_len;
    uint32_t data; /* of a map to a mark; 0: of a set */
    bool remove;   /* else added; both are fine when it is so already */
};

/* All or nothing; n is of NETLINK_NETFILTER. 0 or -errno. */
int nft_change(struct netlink *n, const struct nft_element *elements, size_t count);

/* 1 = there is one, 0 = there is none, or -errno. */
int nft_has_set(struct netlink *n, enum nft_family family, const char *table, const char *set);

/* Calls fn with the key of each element. */
typedef void (*nft_key_fn)(const uint8_t *key, size_t len, void *arg);
int nft_each(struct netlink *n, enum nft_family family, const char *table, const char *set,
             nft_key_fn fn, void *arg);

/* Takes all elements out of a set. */
int nft_empty(struct netlink *n, enum nft_family family, const char *table, const char *set);

/* Deletes a table with all that is in it; one that is not there is fine. */
int nft_delete_table(struct netlink *n, enum nft_family family, const char *name);
