#include "image/doctor.h"

#include "base/str.h"
#include "boot/modules.h"
#include "image/image_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMPORT_FIX "banger kernel import NAME UNPACKED-PACKAGE"
#define REGISTER_FIX "banger image register %s ROOTFS.tar"

static const char *hex_of(const struct artifact_row *row)
{
    return row->digest + strlen("sha256:");
}

/* The kernel that VMs boot when nobody names one. 1, 0: there is none, or -1. */
static int find_kernel(const struct image_doctor *d, struct artifact_row *ret, struct err *err)
{
    struct artifact_row *rows;
    size_t count;

    if (!d->store) {
        return 0;
    }
    if (d->default_kernel[0]) {
        return store_artifact_find(d->store, STORE_KERNEL, d->default_kernel, ret, err) < 0 ? -1
                                                                                            : 1;
    }
    if (store_artifact_list(d->store, STORE_KERNEL, &rows, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (i + 1 < count) {
            artifact_row_done(&rows[i]);
        } else {
            *ret = rows[i];
        }
    }
    free(rows);
    return count > 0;
}

static void check_kernel(const void *ctx, struct doctor_finding *f)
{
    const struct image_doctor *d = ctx;
    _cleanup_artifact_row_ struct artifact_row row = {0};
    _cleanup_free_ char *path = NULL;
    struct err err;
    int r = find_kernel(d, &row, &err);

    if (r < 0) {
        doctor_fail(f, "the default kernel '%s' is not there", d->default_kernel);
        doctor_evidence(f, "%s", err.message);
        doctor_fix(f,
                   "banger kernel list; then set default_kernel in config.toml, or: " IMPORT_FIX);
        return;
    }
    if (r == 0) {
        doctor_warn(f, "there is no kernel to boot yet");
        doctor_evidence(f, "no kernel in %s/banger.db", d->state_dir);
        doctor_fix(f, IMPORT_FIX);
        return;
    }
    path = x_asprintf("%s/kernels/%s/vmlinux", d->state_dir, hex_of(&row));
    if (access(path, R_OK) < 0) {
        doctor_fail(f, "the file of kernel %s is not there", row.version);
        doctor_evidence(f, "%s: %s", path, strerror(errno));
        doctor_fix(f, "import it again: " IMPORT_FIX);
        return;
    }
    doctor_evidence(f, "%s", path);
    doctor_pass(f, "VMs boot Linux %s", row.version);
}

/* Each module that the list names, which is all that an initramfs is made of beside the agent. */
static void check_modules(const void *ctx, struct doctor_finding *f)
{
    const struct image_doctor *d = ctx;
    _cleanup_artifact_row_ struct artifact_row row = {0};
    _cleanup_free_ char *dir = NULL, *order = NULL, *list = NULL;
    struct err err;
    char *rest, *name;
    unsigned count = 0;
    struct stat st;

    if (find_kernel(d, &row, &err) <= 0) {
        doctor_evidence(f, "no kernel");
        doctor_pass(f, "there are no modules without a kernel");
        return;
    }
    dir = x_asprintf("%s/kernels/%s", d->state_dir, hex_of(&row));
    order = x_asprintf("%s/order", dir);
    list = doctor_read("", order);
    if (!list) {
        doctor_fail(f, "the list of modules of kernel %s cannot be read", row.version);
        doctor_evidence(f, "%s: %s", order, strerror(errno));
        doctor_fix(f, "import it again: " IMPORT_FIX);
        return;
    }
    rest = list;
    while ((name = strsep(&rest, "\n")) && name[0]) {
        _cleanup_free_ char *path = x_asprintf("%s/%s", dir, name);

        if (!module_name_valid(name) || stat(path, &st) < 0 || st.st_size == 0) {
            doctor_fail(f, "a module that the initramfs needs is not there");
            doctor_evidence(f, "%s: %s", path,
                            module_name_valid(name) ? "missing or empty" : "no name of a module");
            doctor_fix(f, "import the kernel again: " IMPORT_FIX);
            return;
        }
        count++;
    }
    doctor_evidence(f, "%s: %u modules", order, count);
    doctor_pass(f, "the modules of the initramfs are those of kernel %s", row.version);
}

static void check_image(const void *ctx, struct doctor_finding *f)
{
    const struct image_doctor *d = ctx;
    _cleanup_artifact_row_ struct artifact_row row = {0};
    _cleanup_free_ char *path = NULL;
    struct err err;
    struct stat st;

    if (!d->store || store_artifact_find(d->store, STORE_IMAGE, d->default_image, &row, &err) < 0) {
        doctor_warn(f, "the default image '%s' is not there yet", d->default_image);
        doctor_evidence(f, "default_image = \"%s\"; not in %s/banger.db", d->default_image,
                        d->state_dir);
        doctor_fix(f, REGISTER_FIX ", or set default_image in config.toml", d->default_image);
        return;
    }
    path = x_asprintf("%s/images/%s" IMAGE_SUFFIX, d->state_dir, hex_of(&row));
    if (stat(path, &st) < 0 || st.st_size == 0) {
        doctor_fail(f, "the root disk of image '%s' is not there", d->default_image);
        doctor_evidence(f, "%s: missing or empty", path);
        doctor_fix(f, "register it again: " REGISTER_FIX, d->default_image);
        return;
    }
    doctor_evidence(f, "%s", path);
    doctor_pass(f, "VMs run image '%s'", d->default_image);
}

const struct doctor_check image_checks[] = {
    {"kernel", "The kernel that VMs boot", 0, check_kernel},
    {"modules", "Modules of the initramfs", 0, check_modules},
    {"image", "The default image", 0, check_image},
    {0},
};
