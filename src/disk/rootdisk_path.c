#include "disk/rootdisk_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define HOPS_MAX 40 /* as the kernel */

static int tree_err(struct err *err, int r, const char *path)
{
    char show[RD_SHOW_SIZE];

    if (r == -ENOSPC) {
        return err_set(err, ERR_LIMIT, "'%s': too many names in one image", rd_show(path, show));
    }
    return err_set_errno(err, ERR_IO, r, "'%s'", rd_show(path, show));
}

int rd_place_add(struct rootdisk *disk, struct rd_place place, uint32_t ino, uint8_t type,
                 uint32_t *ret_node, struct err *err)
{
    uint32_t node = 0;
    int r = rd_tree_add(&disk->tree, place.dir, place.name, &node);

    if (r < 0) {
        return tree_err(err, r, disk->path);
    }
    disk->tree.nodes[node].ino = ino;
    disk->tree.nodes[node].type = type;
    disk->tree.nodes[node].layer = disk->layers;
    if (ret_node) {
        *ret_node = node;
    }
    return 0;
}

static int make_parent(struct rootdisk *disk, uint32_t dir, struct rd_name name, uint32_t *ret_node,
                       struct err *err)
{
    const struct rd_meta meta = {.mode = S_IFDIR | 0755, .mtime = RD_EPOCH};
    struct rd_place place = {.dir = dir, .name = name};
    uint32_t ino = 0;

    if (rd_inode_new(disk, true, &ino, err) < 0 ||
        rd_inode_write(disk, ino, &meta, NULL, err) < 0) {
        return -1;
    }
    return rd_place_add(disk, place, ino, EXT2_FT_DIR, ret_node, err);
}

/* Copies path without empty and "." parts. Refuses "..": no honest tar has it, and what it means
 * across symlinks differs between programs. */
static int clean_path(struct rootdisk *disk, const char *path, struct err *err)
{
    char show[RD_SHOW_SIZE];
    size_t used = 0;

    while (*path) {
        size_t len = strcspn(path, "/");

        if (len == 2 && memcmp(path, "..", 2) == 0) {
            return err_set(err, ERR_INVALID, "'%s': '..' in a path", rd_show(path, show));
        }
        if (len > RD_NAME_MAX) {
            return err_set(err, ERR_INVALID, "'%s': name longer than %u bytes", rd_show(path, show),
                           RD_NAME_MAX);
        }
        if (len > 0 && !(len == 1 && path[0] == '.')) {
            if (used + len + 2 > RD_PATH_MAX) {
                return err_set(err, ERR_LIMIT, "'%s': path longer than %u bytes",
                               rd_show(path, show), RD_PATH_MAX);
            }
            if (used > 0) {
                disk->path[used++] = '/';
            }
            memcpy(disk->path + used, path, len);
            used += len;
        }
        path += len;
        path += *path == '/';
    }
    disk->path[used] = '\0';
    return 0;
}

/* Puts a symlink's target before what is left to walk. NULL when it does not fit. */
static char *prepend_target(struct rootdisk *disk, char *rest, const char *target)
{
    size_t len = strlen(target);

    if ((size_t)(rest - disk->walk) < len + 1) {
        return NULL;
    }
    rest -= len + 1;
    memcpy(rest, target, len);
    rest[len] = '/';
    return rest;
}

/* One step down from dir. ret_node is the child, made when missing and `create`. */
static int step(struct rootdisk *disk, uint32_t dir, struct rd_name name, bool create,
                uint32_t *ret_node, struct err *err)
{
    char show[RD_SHOW_SIZE];
    uint32_t node = rd_tree_find(&disk->tree, dir, name);

    if (node != RD_NONE) {
        uint8_t type = disk->tree.nodes[node].type;

        if (type != EXT2_FT_DIR && type != EXT2_FT_SYMLINK) {
            return err_set(err, ERR_INVALID, "'%s': its parent '%.*s' is not a directory",
                           rd_show(disk->path, show), (int)name.len, name.s);
        }
        *ret_node = node;
        return 0;
    }
    if (!create) {
        return err_set(err, ERR_NOT_FOUND, "'%s': no such file in the image",
                       rd_show(disk->path, show));
    }
    if (name.len > RD_NAME_MAX) {
        return err_set(err, ERR_INVALID, "'%s': goes through a symlink with a name over %u bytes",
                       rd_show(disk->path, show), RD_NAME_MAX);
    }
    return make_parent(disk, dir, name, ret_node, err);
}

/* Walks disk->path[0..len) from the root, through symlinks as a process inside would. */
static int walk(struct rootdisk *disk, size_t len, bool create, uint32_t *ret_dir, struct err *err)
{
    char show[RD_SHOW_SIZE];
    char *rest = disk->walk + RD_WALK_SIZE - len - 1;
    uint32_t dir = RD_ROOT, node = 0;
    unsigned hops = 0;

    memcpy(rest, disk->path, len);
    rest[len] = '\0';
    while (*rest) {
        struct rd_name name = {.s = rest, .len = strcspn(rest, "/")};

        rest += name.len;
        rest += *rest == '/';
        if (name.len == 0 || (name.len == 1 && name.s[0] == '.')) {
            continue;
        }
        if (name.len == 2 && memcmp(name.s, "..", 2) == 0) {
            dir = disk->tree.nodes[dir].parent;
            continue;
        }
        if (step(disk, dir, name, create, &node, err) < 0) {
            return -1;
        }
        if (disk->tree.nodes[node].type == EXT2_FT_DIR) {
            dir = node;
            continue;
        }
        const char *target = disk->tree.text + disk->tree.nodes[node].target;

        rest = ++hops > HOPS_MAX ? NULL : prepend_target(disk, rest, target);
        if (!rest) {
            return err_set(err, ERR_INVALID, "'%s': too many symlinks on the way to it",
                           rd_show(disk->path, show));
        }
        dir = *rest == '/' ? RD_ROOT : dir;
    }
    *ret_dir = dir;
    return 0;
}

int rd_place_find(struct rootdisk *disk, const char *path, bool create, struct rd_place *ret_place,
                  struct err *err)
{
    uint32_t dir = RD_ROOT;
    const char *slash;

    if (clean_path(disk, path, err) < 0) {
        return -1;
    }
    slash = strrchr(disk->path, '/');
    if (slash && walk(disk, (size_t)(slash - disk->path), create, &dir, err) < 0) {
        return -1;
    }
    ret_place->dir = dir;
    ret_place->name.s = slash ? slash + 1 : disk->path;
    ret_place->name.len = strlen(ret_place->name.s);
    return 0;
}

int rd_place_clear(struct rootdisk *disk, uint32_t node, struct err *err)
{
    const struct rd_node *nodes = disk->tree.nodes; /* removing never moves them */
    uint32_t at = node;

    for (;;) {
        uint32_t parent;

        while (nodes[at].type == EXT2_FT_DIR && nodes[at].child != RD_NONE) {
            at = nodes[at].child;
        }
        parent = nodes[at].parent;
        if (rd_inode_unlink(disk, nodes[at].ino, nodes[at].type == EXT2_FT_DIR, err) < 0) {
            return -1;
        }
        rd_tree_remove(&disk->tree, at);
        if (at == node) {
            return 0;
        }
        at = parent;
    }
}
