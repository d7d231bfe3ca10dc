#include "disk/rootdisk_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Directories that paths imply count too; a little above the inode count of the largest image. */
#define NODES_MAX (ROOTDISK_ENTRIES_MAX + 65536u)
#define TEXT_MAX (256u << 20)

static uint32_t hash_name(const struct rd_tree *tree, uint32_t dir, struct rd_name name)
{
    const uint32_t seed[4] = {tree->seed[0], tree->seed[1] ^ dir, tree->seed[2], tree->seed[3]};
    ext2_dirhash_t hash = 0;

    /* Keyed with a secret, and already linked in. Cannot fail for this version and no charset. */
    (void)ext2fs_dirhash2(EXT2_HASH_HALF_MD4_UNSIGNED, name.s, (int)name.len, NULL, 0, seed, &hash,
                          NULL);
    return (uint32_t)hash >> 1; /* its lowest bit is always clear */
}

static int grow_text(struct rd_tree *tree, size_t more)
{
    uint64_t need = (uint64_t)tree->text_len + more;
    uint64_t capacity = tree->text_capacity ? tree->text_capacity : 65536;
    char *text;

    if (need > TEXT_MAX) {
        return -ENOSPC;
    }
    if (need <= tree->text_capacity) {
        return 0;
    }
    while (capacity < need) {
        capacity *= 2;
    }
    text = realloc(tree->text, capacity);
    if (!text) {
        return -ENOMEM;
    }
    tree->text = text;
    tree->text_capacity = (uint32_t)capacity;
    return 0;
}

static int put_text(struct rd_tree *tree, const char *s, size_t len, uint32_t *ret_offset)
{
    int r = grow_text(tree, len);

    if (r < 0) {
        return r;
    }
    memcpy(tree->text + tree->text_len, s, len);
    *ret_offset = tree->text_len;
    tree->text_len += (uint32_t)len;
    return 0;
}

static struct rd_name node_name(const struct rd_tree *tree, const struct rd_node *node)
{
    return (struct rd_name){.s = tree->text + node->name, .len = node->name_len};
}

static void bucket_insert(struct rd_tree *tree, uint32_t node)
{
    struct rd_node *n = &tree->nodes[node];
    uint32_t *bucket =
        &tree->buckets[hash_name(tree, n->parent, node_name(tree, n)) & tree->bucket_mask];

    n->hash_next = *bucket;
    *bucket = node;
}

/* Buckets follow the nodes' capacity, so that both grow in one place. */
static int grow_nodes(struct rd_tree *tree)
{
    uint32_t capacity = tree->capacity ? tree->capacity * 2 : 4096;
    struct rd_node *nodes;
    uint32_t *buckets;

    nodes = realloc(tree->nodes, (size_t)capacity * sizeof(*nodes));
    if (!nodes) {
        return -ENOMEM;
    }
    tree->nodes = nodes;
    buckets = malloc((size_t)capacity * sizeof(*buckets));
    if (!buckets) {
        return -ENOMEM;
    }
    memset(buckets, 0xff, (size_t)capacity * sizeof(*buckets)); /* RD_NONE */
    free(tree->buckets);
    tree->buckets = buckets;
    tree->bucket_mask = capacity - 1;
    tree->capacity = capacity;
    for (uint32_t i = RD_ROOT + 1; i < tree->count; i++) {
        if (tree->nodes[i].ino) {
            bucket_insert(tree, i);
        }
    }
    return 0;
}

int rd_tree_init(struct rd_tree *tree, uint32_t root_ino)
{
    int r;

    *tree = (struct rd_tree){.free_head = RD_NONE};
    if (getrandom(tree->seed, sizeof(tree->seed), 0) != (ssize_t)sizeof(tree->seed)) {
        return -EIO;
    }
    r = grow_nodes(tree);
    if (r < 0) {
        return r;
    }
    tree->nodes[RD_ROOT] = (struct rd_node){
        .parent = RD_ROOT,
        .hash_next = RD_NONE,
        .prev = RD_NONE,
        .next = RD_NONE,
        .child = RD_NONE,
        .ino = root_ino,
        .type = EXT2_FT_DIR,
    };
    tree->count = 1;
    return 0;
}

void rd_tree_done(struct rd_tree *tree)
{
    free(tree->nodes);
    free(tree->buckets);
    free(tree->text);
    *tree = (struct rd_tree){0};
}

uint32_t rd_tree_find(const struct rd_tree *tree, uint32_t dir, struct rd_name name)
{
    uint32_t i = tree->buckets[hash_name(tree, dir, name) & tree->bucket_mask];

    while (i != RD_NONE) {
        const struct rd_node *n = &tree->nodes[i];

        if (n->parent == dir && n->name_len == name.len &&
            memcmp(tree->text + n->name, name.s, name.len) == 0) {
            return i;
        }
        i = n->hash_next;
    }
    return RD_NONE;
}

static int take_node(struct rd_tree *tree, uint32_t *ret_node)
{
    int r;

    if (tree->free_head != RD_NONE) {
        *ret_node = tree->free_head;
        tree->free_head = tree->nodes[*ret_node].next;
        return 0;
    }
    if (tree->count >= NODES_MAX) {
        return -ENOSPC;
    }
    if (tree->count == tree->capacity) {
        r = grow_nodes(tree);
        if (r < 0) {
            return r;
        }
    }
    *ret_node = tree->count++;
    tree->nodes[*ret_node].ino = 0;
    return 0;
}

int rd_tree_add(struct rd_tree *tree, uint32_t dir, struct rd_name name, uint32_t *ret_node)
{
    uint32_t offset = 0, node = 0;
    struct rd_node *parent;
    int r;

    r = put_text(tree, name.s, name.len, &offset);
    if (r < 0) {
        return r;
    }
    r = take_node(tree, &node);
    if (r < 0) {
        return r;
    }
    parent = &tree->nodes[dir];
    tree->nodes[node] = (struct rd_node){
        .parent = dir,
        .prev = RD_NONE,
        .next = parent->child,
        .child = RD_NONE,
        .name = offset,
        .name_len = (uint8_t)name.len,
    };
    if (parent->child != RD_NONE) {
        tree->nodes[parent->child].prev = node;
    }
    parent->child = node;
    parent->children++;
    bucket_insert(tree, node);
    *ret_node = node;
    return 0;
}

int rd_tree_set_target(struct rd_tree *tree, uint32_t node, const char *target)
{
    return put_text(tree, target, strlen(target) + 1, &tree->nodes[node].target);
}

void rd_tree_remove(struct rd_tree *tree, uint32_t node)
{
    struct rd_node *n = &tree->nodes[node];
    struct rd_node *parent = &tree->nodes[n->parent];
    uint32_t *link =
        &tree->buckets[hash_name(tree, n->parent, node_name(tree, n)) & tree->bucket_mask];

    while (*link != node) {
        link = &tree->nodes[*link].hash_next;
    }
    *link = n->hash_next;
    if (n->prev != RD_NONE) {
        tree->nodes[n->prev].next = n->next;
    } else {
        parent->child = n->next;
    }
    if (n->next != RD_NONE) {
        tree->nodes[n->next].prev = n->prev;
    }
    parent->children--;
    *n = (struct rd_node){.next = tree->free_head};
    tree->free_head = node;
}
