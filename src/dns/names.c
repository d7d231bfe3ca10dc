/* The table of names: by id, by name, by address. */
#include "dns/dns_priv.h"

#include "base/str.h"

struct by_address {
    struct hash_node node;
    struct entry *entry;
    struct dns_address address;
    bool is_used;
};

struct entry {
    struct hash_node by_id, by_name;
    struct by_address addresses[2]; /* IPv4, IPv6 */
    char id[ID_SIZE];
    uint8_t label[1 + DNS_LABEL_MAX]; /* its length and bytes, lower case */
};

void dns_names_init(struct dns_names *n)
{
    hash_init(&n->by_id);
    hash_init(&n->by_name);
    hash_init(&n->by_address);
}

void dns_names_done(struct dns_names *n)
{
    for (size_t i = 0; i < n->by_id.size; i++) {
        struct hash_node *node = n->by_id.buckets[i];

        while (node) {
            struct entry *e = HASH_ENTRY(node, struct entry, by_id);

            node = node->next;
            free(e);
        }
    }
    hash_done(&n->by_id);
    hash_done(&n->by_name);
    hash_done(&n->by_address);
}

/* ---- finding, all under the lock ---- */

static uint64_t hash_label(const struct dns *d, const uint8_t *label)
{
    return hash_bytes(&d->key, label, label[0] + 1U);
}

static uint64_t hash_address(const struct dns *d, const struct dns_address *a)
{
    return hash_bytes(&d->key, a->bytes, a->family == AF_INET ? 4 : 16);
}

static struct entry *find_id_locked(const struct dns *d, const char *id) REQUIRES(rank_leaf)
{
    uint64_t hash = hash_bytes(&d->key, id, strlen(id));

    for (struct hash_node *n = hash_first(&d->names.by_id, hash); n; n = hash_next(n)) {
        struct entry *e = HASH_ENTRY(n, struct entry, by_id);

        if (str_eq(e->id, id)) {
            return e;
        }
    }
    return NULL;
}

/* label: in lower case. */
static struct entry *find_label_locked(const struct dns *d, const uint8_t *label)
    REQUIRES(rank_leaf)
{
    uint64_t hash = hash_label(d, label);

    for (struct hash_node *n = hash_first(&d->names.by_name, hash); n; n = hash_next(n)) {
        struct entry *e = HASH_ENTRY(n, struct entry, by_name);

        if (memcmp(e->label, label, label[0] + 1U) == 0) {
            return e;
        }
    }
    return NULL;
}

static struct entry *find_address_locked(const struct dns *d, const struct dns_address *a)
    REQUIRES(rank_leaf)
{
    uint64_t hash = hash_address(d, a);

    for (struct hash_node *n = hash_first(&d->names.by_address, hash); n; n = hash_next(n)) {
        struct by_address *at = HASH_ENTRY(n, struct by_address, node);

        if (at->address.family == a->family &&
            memcmp(at->address.bytes, a->bytes, sizeof(a->bytes)) == 0) {
            return at->entry;
        }
    }
    return NULL;
}

size_t dns_names_find(struct dns *d, const uint8_t *label, struct dns_address ret_addresses[2])
{
    struct dns_name lower = {.len = (uint8_t)(label[0] + 1)};
    struct entry *e;
    size_t count = 0;

    memcpy(lower.wire, label, lower.len);
    dns_name_lower(&lower);
    leaf_lock(&d->lock);
    e = find_label_locked(d, lower.wire);
    for (size_t i = 0; e && i < ARRAY_LEN(e->addresses); i++) {
        if (e->addresses[i].is_used) {
            ret_addresses[count++] = e->addresses[i].address;
        }
    }
    leaf_unlock(&d->lock);
    return count;
}

bool dns_names_find_address(struct dns *d, const struct dns_address *a, struct dns_name *ret_name)
{
    struct dns_name name;
    struct entry *e;

    leaf_lock(&d->lock);
    e = find_address_locked(d, a);
    if (e) {
        name.len = (uint8_t)(1 + e->label[0]);
        memcpy(name.wire, e->label, name.len);
    }
    leaf_unlock(&d->lock);
    if (!e) {
        return false;
    }
    /* dns_open saw to it that a label fits before the domain. */
    memcpy(name.wire + name.len, d->domain.wire, d->domain.len);
    name.len = (uint8_t)(name.len + d->domain.len);
    *ret_name = name;
    return true;
}

uint32_t dns_names_serial(struct dns *d)
{
    uint32_t serial;

    leaf_lock(&d->lock);
    serial = d->names.serial;
    leaf_unlock(&d->lock);
    return serial;
}

/* ---- changing ---- */

static struct entry *entry_new(const char *id, const char *name, struct in_addr ipv4,
                               const struct in6_addr *ipv6)
{
    struct entry *e = x_calloc(1, sizeof(*e));

    (void)snprintf(e->id, sizeof(e->id), "%s", id);
    e->label[0] = (uint8_t)strlen(name);
    memcpy(e->label + 1, name, e->label[0]);
    e->addresses[0].is_used = ipv4.s_addr != INADDR_ANY;
    e->addresses[0].address.family = AF_INET;
    memcpy(e->addresses[0].address.bytes, &ipv4, sizeof(ipv4));
    e->addresses[1].is_used = ipv6 != NULL;
    e->addresses[1].address.family = AF_INET6;
    if (ipv6) {
        memcpy(e->addresses[1].address.bytes, ipv6, sizeof(*ipv6));
    }
    return e;
}

static void add_locked(struct dns *d, struct entry *e) REQUIRES(rank_leaf)
{
    hash_add(&d->names.by_id, &e->by_id, hash_bytes(&d->key, e->id, strlen(e->id)));
    hash_add(&d->names.by_name, &e->by_name, hash_label(d, e->label));
    for (size_t i = 0; i < ARRAY_LEN(e->addresses); i++) {
        struct by_address *at = &e->addresses[i];

        at->entry = e;
        if (at->is_used) {
            hash_add(&d->names.by_address, &at->node, hash_address(d, &at->address));
        }
    }
    d->names.serial++;
    d->stats.names++;
}

static void remove_locked(struct dns *d, struct entry *e) REQUIRES(rank_leaf)
{
    hash_remove(&d->names.by_id, &e->by_id);
    hash_remove(&d->names.by_name, &e->by_name);
    for (size_t i = 0; i < ARRAY_LEN(e->addresses); i++) {
        if (e->addresses[i].is_used) {
            hash_remove(&d->names.by_address, &e->addresses[i].node);
        }
    }
    d->names.serial++;
    d->stats.names--;
}

/* Whether e can come into the table in the place of `old`. */
static enum err_code check_locked(const struct dns *d, const struct entry *e,
                                  const struct entry *old) REQUIRES(rank_leaf)
{
    const struct entry *holder = find_label_locked(d, e->label);

    if (holder && holder != old) {
        return ERR_ALREADY_EXISTS;
    }
    for (size_t i = 0; i < ARRAY_LEN(e->addresses); i++) {
        if (e->addresses[i].is_used) {
            holder = find_address_locked(d, &e->addresses[i].address);
            if (holder && holder != old) {
                return ERR_ALREADY_EXISTS;
            }
        }
    }
    return !old && d->stats.names >= DNS_NAMES_MAX ? ERR_LIMIT : ERR_NONE;
}

int dns_set_name(struct dns *d, const char *id, const char *name, struct in_addr ipv4,
                 const struct in6_addr *ipv6, struct err *err)
{
    enum err_code code;
    struct entry *e, *old;

    if (!id[0] || strlen(id) >= ID_SIZE) {
        return err_set(err, ERR_INVALID, "'%s' is no id", id);
    }
    if (!str_is_dns_label(name)) {
        return err_set(err, ERR_INVALID, "'%s' is no DNS label", name);
    }
    if (ipv4.s_addr == INADDR_ANY && !ipv6) {
        return err_set(err, ERR_INVALID, "name '%s' has no address", name);
    }
    e = entry_new(id, name, ipv4, ipv6);
    leaf_lock(&d->lock);
    old = find_id_locked(d, id);
    code = check_locked(d, e, old);
    if (code == ERR_NONE) {
        if (old) {
            remove_locked(d, old);
        }
        add_locked(d, e);
    }
    leaf_unlock(&d->lock);
    if (code != ERR_NONE) {
        free(e);
        return code == ERR_LIMIT
                   ? err_set(err, code, "there are %d names in DNS", DNS_NAMES_MAX)
                   : err_set(err, code, "name '%s' or its address is in DNS already", name);
    }
    free(old);
    return 0;
}

void dns_remove_name(struct dns *d, const char *id)
{
    struct entry *e;

    leaf_lock(&d->lock);
    e = find_id_locked(d, id);
    if (e) {
        remove_locked(d, e);
    }
    leaf_unlock(&d->lock);
    free(e);
}
