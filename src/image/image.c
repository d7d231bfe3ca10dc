/* The catalogue itself: listing, finding, publishing. Making: image_register.c, kernel_import.c. */
#include "image/image_priv.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Sorted hex digests of all that the store has of a kind. */
struct digests {
    char (*list)[SHA256_HEX_SIZE];
    size_t count;
};

static int compare_digests(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int load_digests(struct store *store, enum store_kind kind, struct digests *ret,
                        struct err *err)
{
    struct artifact_row *rows;

    if (store_artifact_list(store, kind, &rows, &ret->count, err) < 0) {
        return -1;
    }
    ret->list = x_calloc(ret->count + 1, sizeof(*ret->list));
    for (size_t i = 0; i < ret->count; i++) {
        (void)snprintf(ret->list[i], sizeof(ret->list[i]), "%.64s",
                       rows[i].digest + strlen("sha256:"));
        artifact_row_done(&rows[i]);
    }
    free(rows);
    qsort(ret->list, ret->count, sizeof(*ret->list), compare_digests);
    return 0;
}

/* Published (it has the name of a digest), but the daemon died before its row was there. */
static bool is_orphan(const char *name, const char *suffix, const struct digests *known)
{
    char hex[SHA256_HEX_SIZE];

    if (strspn(name, "0123456789abcdef") != SHA256_HEX_SIZE - 1 ||
        !str_eq(name + SHA256_HEX_SIZE - 1, suffix)) {
        return false;
    }
    (void)snprintf(hex, sizeof(hex), "%.64s", name);
    return known->count == 0 ||
           !bsearch(hex, known->list, known->count, sizeof(*known->list), compare_digests);
}

/* What an earlier daemon was making when it died. */
static void remove_unfinished(int dir_fd, const char *suffix, const struct digests *known)
{
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *e;

    if (!dir) {
        close_p(&copy);
        return;
    }
    while ((e = readdir(dir))) {
        if (str_starts_with(e->d_name, "tmp-") || is_orphan(e->d_name, suffix, known)) {
            int r = fs_remove_tree(dir_fd, e->d_name);

            log_info("unfinished '%s' removed%s%s", e->d_name, r < 0 ? ": " : "",
                     r < 0 ? strerror(-r) : "");
        }
    }
    closedir(dir);
}

/* Without a list of what is known nothing is taken for unknown. */
static void clean(struct image_registry *r, enum store_kind kind, int dir_fd, const char *suffix)
{
    struct digests known = {0};
    struct err err;

    if (load_digests(r->store, kind, &known, &err) < 0) {
        log_warn("what an earlier daemon left unfinished is not removed: %s", err.message);
        return;
    }
    remove_unfinished(dir_fd, suffix, &known);
    free(known.list);
}

int image_registry_new(const struct image_registry_params *params, struct image_registry **ret,
                       struct err *err)
{
    struct image_registry *r = x_calloc(1, sizeof(*r));

    r->store = params->store;
    r->space = params->space;
    r->cache_fd = params->cache_fd;
    r->agent_path = x_strdup(params->agent_path);
    r->mkroot_path = x_strdup(params->mkroot_path);
    r->build = params->build ? params->build : image_build_root;
    r->spawn = params->spawn ? params->spawn : spawn_process;
    r->clock = params->clock ? params->clock : &clock_system;
    lock_init(&r->lock);
    r->images_fd = fs_open_dir(params->state_fd, "images", true);
    r->kernels_fd = fs_open_dir(params->state_fd, "kernels", true);
    if (r->images_fd < 0 || r->kernels_fd < 0) {
        err_set_errno(err, ERR_IO, r->images_fd < 0 ? r->images_fd : r->kernels_fd,
                      "cannot open the image directories");
        image_registry_free(r);
        return -1;
    }
    clean(r, STORE_IMAGE, r->images_fd, IMAGE_SUFFIX);
    clean(r, STORE_KERNEL, r->kernels_fd, "");
    *ret = r;
    return 0;
}

void image_registry_free(struct image_registry *r)
{
    if (r) {
        close_p(&r->images_fd);
        close_p(&r->kernels_fd);
        free(r->agent_path);
        free(r->mkroot_path);
        lock_done(&r->lock);
        free(r);
    }
}

int image_check_name(const char *what, const char *name, struct err *err)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._/:-");
    bool first_ok = (name[0] >= 'a' && name[0] <= 'z') || (name[0] >= '0' && name[0] <= '9');

    /* What looks like a digest would hide the image or kernel that has it. */
    if (!first_ok || name[n] || n > STORE_NAME_MAX || str_starts_with(name, "sha256:")) {
        _cleanup_free_ char *safe = str_escape(name, strlen(name), STORE_NAME_MAX);

        err_set(err, ERR_INVALID, "'%s' is not a name for %s", safe, what);
        return err_hint(err,
                        "use lower-case letters, digits and . _ / : - (a letter or digit "
                        "first, at most %d bytes)",
                        STORE_NAME_MAX);
    }
    return 0;
}

void image_stage(const struct image_progress *p, const char *name)
{
    if (p && p->stage) {
        p->stage(p->arg, name);
    }
}

int image_hash_fd(int fd, struct cancel *cancel, char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    struct sha256 *h = sha256_new();
    _cleanup_free_ char *chunk = x_calloc(1, 1 << 20);
    ssize_t n;

    while ((n = read(fd, chunk, 1 << 20)) > 0 && !cancel_requested(cancel)) {
        sha256_add(h, chunk, (size_t)n);
    }
    sha256_end(h, ret_hex);
    if (n < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot read the image");
    }
    return n > 0 ? err_set_errno(err, ERR_CANCELLED, ECANCELED, "digest of the image") : 0;
}

json_t *image_row_json(enum store_kind kind, const struct artifact_row *row)
{
    char time[CLOCK_RFC3339_SIZE];
    json_t *o = json_object(), *names = NULL, *config = NULL;
    struct err ignored; /* we wrote both texts; a damaged one shows as empty */

    if (json_parse(row->names ? row->names : "[]", strlen(row->names ? row->names : "[]"), &names,
                   &ignored) < 0) {
        names = json_array();
    }
    if (json_parse(row->config ? row->config : "{}", strlen(row->config ? row->config : "{}"),
                   &config, &ignored) < 0) {
        config = json_object();
    }
    json_put_str(o, "id", row->digest);
    json_put_str(o, "digest", row->digest);
    json_put(o, "names", names);
    json_put_int(o, "size_bytes", (long long)row->size_bytes);
    clock_format_rfc3339(row->created_ms, time);
    json_put_str(o, "created_at", time);
    if (kind == STORE_IMAGE) {
        json_put_bool(o, "managed", true);
        json_put(o, "config", config);
    } else {
        json_put_str(o, "version", row->version);
        json_decref(config);
    }
    return o;
}

int image_publish(struct image_registry *r, enum store_kind kind, int dir_fd, const char *temp,
                  const char *final, struct artifact_row *row, const char *name, struct err *err)
{
    struct stat st;
    int result;

    row->created_ms = r->clock->real_ms();
    image_lock(&r->lock);
    if (fstatat(dir_fd, final, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        (void)fs_remove_tree(dir_fd, temp); /* the same content is there */
    } else if (renameat(dir_fd, temp, dir_fd, final) < 0 || fsync(dir_fd) < 0) {
        result = err_set_errno(err, ERR_IO, errno, "cannot publish '%s'", name);
        image_unlock(&r->lock);
        return result;
    }
    /* A death here leaves files without a row, which the next daemon removes. */
    result = store_artifact_publish(r->store, kind, row, name, err);
    image_unlock(&r->lock);
    return result;
}

int image_list(struct image_registry *r, enum store_kind kind, json_t **ret_list, struct err *err)
{
    struct artifact_row *rows;
    json_t *list;
    size_t count;

    if (store_artifact_list(r->store, kind, &rows, &count, err) < 0) {
        return -1;
    }
    list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, image_row_json(kind, &rows[i]));
        artifact_row_done(&rows[i]);
    }
    free(rows);
    *ret_list = list;
    return 0;
}

int image_find(struct image_registry *r, enum store_kind kind, const char *ref,
               struct artifact_row *ret_row, struct err *err)
{
    if (store_artifact_find(r->store, kind, ref, ret_row, err) == 0) {
        return 0;
    }
    if (err->code == ERR_NOT_FOUND && kind == STORE_IMAGE) {
        err_hint(err, "see what there is with: banger image list; add one with: banger image "
                      "register NAME ROOTFS.tar");
    }
    return -1;
}

int kernel_find_default(struct image_registry *r, const char *preferred,
                        struct artifact_row *ret_row, struct err *err)
{
    struct artifact_row *rows;
    size_t count;

    if (preferred) {
        return image_find(r, STORE_KERNEL, preferred, ret_row, err);
    }
    if (store_artifact_list(r->store, STORE_KERNEL, &rows, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i + 1 < count; i++) {
        artifact_row_done(&rows[i]);
    }
    if (count > 0) {
        *ret_row = rows[count - 1];
    }
    free(rows);
    if (count == 0) {
        err_set(err, ERR_NOT_FOUND, "there is no kernel to boot");
        return err_hint(err, "import one with: banger kernel import NAME UNPACKED-PACKAGE (make "
                             "try does it)");
    }
    return 0;
}

int image_open_disk(struct image_registry *r, const char *digest, int *ret_fd, struct err *err)
{
    char name[SHA256_HEX_SIZE + 8];
    int fd;

    (void)snprintf(name, sizeof(name), "%.64s" IMAGE_SUFFIX, digest + strlen("sha256:"));
    fd = openat(r->images_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_set_errno(err, ERR_IO, errno, "the root disk of image '%s' cannot be opened", digest);
        return err_hint(err, "register the image again");
    }
    *ret_fd = fd;
    return 0;
}
