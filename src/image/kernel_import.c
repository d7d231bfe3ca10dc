/* An unpacked kernel package becomes a bootable kernel: vmlinux and the modules a guest needs. */
#include "image/image_priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "boot/initramfs.h"
#include "boot/vmlinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define KERNEL_IMAGE_MAX (256u << 20)
#define KERNEL_CONFIG_MAX (4u << 20)
#define AGENT_MAX (4u << 20)

/* What a guest needs; what is built into the kernel needs no file. Dependencies come by
 * themselves. */
static const char *const wanted_modules[] = {
    "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "ext4", "overlay",
};

/* The one vmlinuz-VERSION in boot/ (or the directory itself). */
static int find_version(const char *path, char *ret_version, size_t size, int *ret_boot_fd,
                        struct err *err)
{
    _cleanup_close_ int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int boot = -1;
    unsigned found = 0;
    struct dirent *e;
    DIR *dir;

    if (root < 0) {
        err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, errno,
                      "cannot open the directory '%s'", path);
        return err_hint(err, "unpack a kernel package with: dpkg-deb -x PACKAGE.deb DIR");
    }
    boot = openat(root, "boot", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir = boot < 0 ? NULL : fdopendir(dup(boot));
    while (dir && (e = readdir(dir))) {
        if (str_starts_with(e->d_name, "vmlinuz-") && e->d_name[8] &&
            strlen(e->d_name) < size + 8) {
            (void)snprintf(ret_version, size, "%s", e->d_name + 8);
            found++;
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (found != 1) {
        err_set(err, found ? ERR_CONFLICT : ERR_NOT_FOUND,
                found ? "'%s/boot' has more than one vmlinuz-VERSION"
                      : "no '%s/boot/vmlinuz-VERSION'",
                path);
        return err_hint(err, "unpack one kernel package with: dpkg-deb -x PACKAGE.deb DIR");
    }
    *ret_boot_fd = STEAL_FD(boot);
    return 0;
}

/* A kernel whose configuration cannot be read is taken to insist on signed modules. */
static bool wants_signatures(int boot_fd, const char *version)
{
    _cleanup_free_ char *name = x_asprintf("config-%s", version);
    _cleanup_free_ char *config = NULL;
    size_t len;

    return fs_read_file(boot_fd, name, KERNEL_CONFIG_MAX, &config, &len) < 0 ||
           strstr(config, "\nCONFIG_MODULE_SIG_FORCE=y\n");
}

static int load_modules(const char *path, const char *version, struct module_list *ret_list,
                        struct err *err)
{
    _cleanup_free_ char *dir = x_asprintf("%s/lib/modules/%s", path, version);
    _cleanup_free_ char *usr_dir = x_asprintf("%s/usr/lib/modules/%s", path, version);
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        fd = open(usr_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0) {
        err_set_errno(err, ERR_NOT_FOUND, errno, "no modules at '%s'", dir);
        return err_hint(err, "unpack the whole kernel package with: dpkg-deb -x PACKAGE.deb DIR");
    }
    return modules_resolve(fd, wanted_modules, ARRAY_LEN(wanted_modules), ret_list, err);
}

/* Writes the new kernel's directory; the digest covers every byte that a boot will use. */
static int write_files(int dir_fd, const uint8_t *elf, size_t elf_len,
                       const struct module_list *modules, char ret_hex[SHA256_HEX_SIZE],
                       struct err *err)
{
    struct sha256 *hash = sha256_new();
    _cleanup_buf_ struct buf order;
    int r;

    buf_init(&order, 65536);
    sha256_add(hash, elf, elf_len);
    r = fs_write_atomic(dir_fd, "vmlinux", elf, elf_len, 0600, true);
    for (size_t i = 0; i < modules->count && r == 0; i++) {
        const struct boot_module *m = &modules->items[i];

        sha256_add(hash, m->name, strlen(m->name) + 1);
        sha256_add(hash, m->data, m->len);
        r = buf_printf(&order, "%s\n", m->name);
        if (r == 0) {
            r = fs_write_atomic(dir_fd, m->name, m->data, m->len, 0600, true);
        }
    }
    if (r == 0) {
        r = fs_write_atomic(dir_fd, "order", order.len ? buf_head(&order) : NULL, order.len, 0600,
                            true);
    }
    sha256_end(hash, ret_hex);
    return r < 0 ? err_set_errno(err, ERR_IO, r, "cannot write the kernel") : 0;
}

/* Nothing is on the disk yet, and all that will be is in memory. */
static int claim(struct image_registry *r, const char *name, size_t elf_len,
                 const struct module_list *modules, struct space_claim **ret_claim, struct err *err)
{
    _cleanup_free_ char *what = x_asprintf("kernel '%s'", name);
    uint64_t bytes = elf_len;

    for (size_t i = 0; i < modules->count; i++) {
        bytes += modules->items[i].len;
    }
    return space_claim(r->space, r->kernels_fd, what, bytes, ret_claim, err);
}

static int import_into(struct image_registry *r, const char *name, const char *path,
                       const char *temp, const struct image_progress *progress,
                       struct artifact_row *row, struct err *err)
{
    _cleanup_(module_list_done) struct module_list modules = {0};
    _cleanup_space_claim_ struct space_claim *promise = NULL;
    _cleanup_close_ int boot_fd = -1, dir_fd = -1;
    _cleanup_free_ char *image = NULL;
    _cleanup_free_ uint8_t *elf = NULL;
    char file[STORE_NAME_MAX + 16], hex[SHA256_HEX_SIZE];
    size_t image_len = 0, elf_len = 0;
    int n;

    if (find_version(path, row->version, sizeof(row->version), &boot_fd, err) < 0) {
        return -1;
    }
    (void)snprintf(file, sizeof(file), "vmlinuz-%s", row->version);
    image_stage(progress, "extract");
    n = fs_read_file(boot_fd, file, KERNEL_IMAGE_MAX, &image, &image_len);
    if (n < 0) {
        return err_set_errno(err, ERR_IO, n, "cannot read '%s/boot/%s'", path, file);
    }
    if (vmlinux_extract((const uint8_t *)image, image_len, &elf, &elf_len, err) < 0) {
        return err_wrap(err, "'%s/boot/%s'", path, file);
    }
    image_stage(progress, "modules");
    if (load_modules(path, row->version, &modules, err) < 0) {
        return -1;
    }
    if (!wants_signatures(boot_fd, row->version)) {
        module_list_strip_signatures(&modules);
    }
    if (claim(r, name, elf_len, &modules, &promise, err) < 0) {
        return -1;
    }
    dir_fd = fs_open_dir(r->kernels_fd, temp, true);
    if (dir_fd < 0) {
        return err_set_errno(err, ERR_IO, dir_fd, "cannot make a directory for the kernel");
    }
    if (write_files(dir_fd, elf, elf_len, &modules, hex, err) < 0) {
        return -1;
    }
    (void)snprintf(row->digest, sizeof(row->digest), "sha256:%s", hex);
    row->size_bytes = elf_len;
    image_stage(progress, "publish");
    return image_publish(r, STORE_KERNEL, r->kernels_fd, temp, hex, row, name, err);
}

int kernel_import(struct image_registry *r, const char *name, const char *path,
                  const struct image_progress *progress, json_t **ret_json, struct err *err)
{
    _cleanup_artifact_row_ struct artifact_row row = {0};
    char id[ID_SIZE], temp[ID_SIZE + 8];

    if (image_check_name("a kernel", name, err) < 0) {
        return -1;
    }
    if (path[0] != '/') {
        return err_set(err, ERR_INVALID, "'%s' is not an absolute path", path);
    }
    id_generate(id);
    (void)snprintf(temp, sizeof(temp), "tmp-%s", id);
    if (import_into(r, name, path, temp, progress, &row, err) < 0) {
        (void)fs_remove_tree(r->kernels_fd, temp);
        return -1;
    }
    artifact_row_done(&row);
    if (image_find(r, STORE_KERNEL, name, &row, err) < 0) {
        return -1;
    }
    *ret_json = image_row_json(STORE_KERNEL, &row);
    return 0;
}

/* ---- use ---- */

static int read_modules(int dir_fd, struct module_list *ret_list, struct err *err)
{
    _cleanup_(module_list_done) struct module_list list = {0};
    _cleanup_free_ char *order = NULL;
    char *rest, *name;
    size_t len;
    int r = fs_read_file(dir_fd, "order", 65536, &order, &len);

    if (r < 0) {
        return err_set_errno(err, ERR_IO, r, "the kernel's list of modules cannot be read");
    }
    list.items = x_calloc(MODULES_MAX, sizeof(*list.items));
    rest = order;
    while ((name = strsep(&rest, "\n")) && *name) {
        struct boot_module *m = &list.items[list.count];
        char *data = NULL;

        if (!module_name_valid(name) || list.count == MODULES_MAX) {
            return err_set(err, ERR_IO, "the kernel's list of modules is damaged");
        }
        r = fs_read_file(dir_fd, name, MODULE_BYTES_MAX, &data, &m->len);
        if (r < 0) {
            return err_set_errno(err, ERR_IO, r, "the kernel's module '%s' cannot be read", name);
        }
        (void)snprintf(m->name, sizeof(m->name), "%s", name);
        m->data = (uint8_t *)data;
        list.count++;
    }
    *ret_list = list;
    list = (struct module_list){0};
    return 0;
}

static int make_initramfs(struct image_registry *r, int kernel_dir, const char *cached,
                          const char *agent, size_t agent_len, struct err *err)
{
    _cleanup_(module_list_done) struct module_list modules = {0};
    _cleanup_buf_ struct buf archive;
    int n;

    buf_init(&archive, INITRAMFS_MAX);
    if (read_modules(kernel_dir, &modules, err) < 0 ||
        initramfs_write(&archive, (const uint8_t *)agent, agent_len, &modules, err) < 0) {
        return -1;
    }
    n = fs_write_atomic(r->cache_fd, cached, buf_head(&archive), archive.len, 0600, true);
    return n < 0 ? err_set_errno(err, ERR_IO, n, "cannot write the initramfs") : 0;
}

/* The caller frees it. */
static int read_agent(struct image_registry *r, char **ret_agent, size_t *ret_len,
                      char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    int n = fs_read_file(AT_FDCWD, r->agent_path, AGENT_MAX, ret_agent, ret_len);

    if (n < 0) {
        err_set_errno(err, ERR_IO, n, "cannot read the guest agent '%s'", r->agent_path);
        return err_hint(err, "is banger installed completely?");
    }
    sha256_of(*ret_agent, *ret_len, ret_hex);
    return 0;
}

int image_agent_digest(struct image_registry *r, char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    _cleanup_free_ char *agent = NULL;
    size_t len = 0;

    return read_agent(r, &agent, &len, ret_hex, err);
}

static int open_initramfs(struct image_registry *r, int kernel_dir, const char *kernel_hex,
                          int *ret_fd, struct err *err)
{
    char cached[128], agent_hex[SHA256_HEX_SIZE];
    _cleanup_free_ char *agent = NULL;
    size_t agent_len = 0;
    int fd;

    if (read_agent(r, &agent, &agent_len, agent_hex, err) < 0) {
        return -1;
    }
    (void)snprintf(cached, sizeof(cached), "initramfs-%.32s-%.32s.cpio", kernel_hex, agent_hex);
    fd = openat(r->cache_fd, cached, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (make_initramfs(r, kernel_dir, cached, agent, agent_len, err) < 0) {
            return -1;
        }
        fd = openat(r->cache_fd, cached, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot open the initramfs");
    }
    *ret_fd = fd;
    return 0;
}

int kernel_open(struct image_registry *r, const char *digest, int *ret_kernel_fd,
                int *ret_initramfs_fd, struct err *err)
{
    const char *hex = digest + strlen("sha256:");
    _cleanup_close_ int dir = openat(r->kernels_fd, hex, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int kernel = -1;

    if (dir >= 0) {
        kernel = openat(dir, "vmlinux", O_RDONLY | O_CLOEXEC);
    }
    if (kernel < 0) {
        err_set_errno(err, ERR_IO, errno, "kernel '%s' cannot be opened", digest);
        return err_hint(err, "import the kernel again");
    }
    if (open_initramfs(r, dir, hex, ret_initramfs_fd, err) < 0) {
        return -1;
    }
    *ret_kernel_fd = STEAL_FD(kernel);
    return 0;
}
