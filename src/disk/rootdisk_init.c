/* Looks for a program in a root disk. */
#include "disk/rootdisk.h"

#include "disk/rootdisk_priv.h"

#include <string.h>

/* Where the kernel and distributions have it; the last two in images of systemd without the package
 * that makes it /sbin/init. */
static const char *const places[] = {"/sbin/init", "/etc/init", "/bin/init", "/lib/systemd/systemd",
                                     "/usr/lib/systemd/systemd"};

static bool is_program(ext2_filsys fs, const char *path)
{
    struct ext2_inode inode;
    ext2_ino_t ino;

    return ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) == 0 &&
           ext2fs_read_inode(fs, ino, &inode) == 0 && LINUX_S_ISREG(inode.i_mode) &&
           (inode.i_mode & 0111) != 0;
}

int rootdisk_find_init(const char *path, const char **ret_init, struct err *err)
{
    ext2_filsys fs = NULL;
    const char *found = NULL;
    errcode_t code;

    initialize_ext2_error_table();
    code = ext2fs_open(path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs);
    if (code) {
        return err_set(err, ERR_IO, "cannot read the root disk: %s", error_message(code));
    }
    for (size_t i = 0; i < ARRAY_LEN(places) && !found; i++) {
        if (is_program(fs, places[i])) {
            found = places[i];
        }
    }
    (void)ext2fs_close_free(&fs);
    *ret_init = found;
    return 0;
}
