#include "disk/rootdisk_priv.h"

#include <archive_entry.h>
#include <errno.h>
#include <string.h>

/* Form of system.posix_acl_* towards user space (linux/posix_acl_xattr.h). */
#define ACL_VERSION 2u
#define ACL_ENTRIES_MAX 512u

struct acl_entry {
    uint16_t tag;
    uint16_t perm;
    uint32_t id;
};

#define VALUE_MAX 65536u

static bool has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* What ext4 on Linux can hold. Others (com.apple.*, system.nfs4_acl) mean nothing there; tar and
 * the container tools drop them too. */
static bool is_known(const char *name)
{
    return has_prefix(name, "user.") || has_prefix(name, "trusted.") ||
           has_prefix(name, "security.") || strcmp(name, "system.posix_acl_access") == 0 ||
           strcmp(name, "system.posix_acl_default") == 0;
}

static bool acl_tag_valid(uint16_t tag)
{
    return tag == 0x01 || tag == 0x02 || tag == 0x04 || tag == 0x08 || tag == 0x10 || tag == 0x20;
}

/* libext2fs translates ACLs to their form on disk and trusts what it is given. */
static bool acl_value_valid(const uint8_t *value, size_t len)
{
    const uint32_t version = ACL_VERSION;

    if (len < sizeof(version) || (len - sizeof(version)) % sizeof(struct acl_entry) != 0 ||
        memcmp(value, &version, sizeof(version)) != 0) {
        return false;
    }
    for (size_t at = sizeof(version); at < len; at += sizeof(struct acl_entry)) {
        struct acl_entry entry;

        memcpy(&entry, value + at, sizeof(entry));
        if (!acl_tag_valid(entry.tag) || entry.perm > 7) {
            return false;
        }
    }
    return true;
}

static int set_one(struct ext2_xattr_handle *handle, const char *name, const void *value,
                   size_t len, struct err *err)
{
    const char *suffix = strchr(name, '.');
    char show[RD_SHOW_SIZE];
    errcode_t code;

    if (!is_known(name)) {
        return 0;
    }
    if (suffix[1] == '\0' || strlen(suffix + 1) > RD_NAME_MAX) {
        return err_set(err, ERR_INVALID, "attribute '%s': bad name", rd_show(name, show));
    }
    if (len > VALUE_MAX) {
        return err_set(err, ERR_LIMIT, "attribute '%s': larger than %u bytes", rd_show(name, show),
                       VALUE_MAX);
    }
    if (has_prefix(name, "system.") && !acl_value_valid(value, len)) {
        return err_set(err, ERR_INVALID, "attribute '%s': not an access control list", name);
    }
    code = ext2fs_xattr_set(handle, name, value, len);
    if (code == EXT2_ET_EA_NO_SPACE || code == EXT2_ET_EA_KEY_NOT_FOUND) {
        return err_set(err, ERR_LIMIT, "attribute '%s': its attributes do not fit into one block",
                       rd_show(name, show));
    }
    return code ? rd_err_ext2(err, code, "attribute") : 0;
}

static int compare_acl(const void *a, const void *b)
{
    const struct acl_entry *x = a, *y = b;

    if (x->tag != y->tag) {
        return x->tag < y->tag ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint16_t acl_tag(int tag)
{
    switch (tag) {
    case ARCHIVE_ENTRY_ACL_USER_OBJ:
        return 0x01;
    case ARCHIVE_ENTRY_ACL_USER:
        return 0x02;
    case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
        return 0x04;
    case ARCHIVE_ENTRY_ACL_GROUP:
        return 0x08;
    case ARCHIVE_ENTRY_ACL_MASK:
        return 0x10;
    case ARCHIVE_ENTRY_ACL_OTHER:
        return 0x20;
    default:
        return 0;
    }
}

/* ACLs that the tar holds as text (SCHILY.acl.*), which libarchive does not show as attributes. */
static int set_acl(struct ext2_xattr_handle *handle, struct archive_entry *entry, int want,
                   const char *name, struct err *err)
{
    struct {
        uint32_t version;
        struct acl_entry entries[ACL_ENTRIES_MAX];
    } value = {.version = ACL_VERSION};
    int type, perm, tag, id;
    const char *who;
    size_t count = 0;

    if (archive_entry_acl_reset(entry, want) <= 0) {
        return 0;
    }
    while (archive_entry_acl_next(entry, want, &type, &perm, &tag, &id, &who) == 0) {
        bool named = tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP;

        if (count == ACL_ENTRIES_MAX) {
            return err_set(err, ERR_LIMIT, "access control list longer than %u entries",
                           ACL_ENTRIES_MAX);
        }
        if (acl_tag(tag) == 0 || (named && id < 0)) {
            return err_set(err, ERR_INVALID, "access control list without numeric ids");
        }
        value.entries[count++] = (struct acl_entry){
            .tag = acl_tag(tag),
            .perm = (uint16_t)(perm & 7),
            .id = named ? (uint32_t)id : UINT32_MAX,
        };
    }
    qsort(value.entries, count, sizeof(value.entries[0]), compare_acl);
    return set_one(handle, name, &value, sizeof(uint32_t) + count * sizeof(value.entries[0]), err);
}

static int set_all(struct ext2_xattr_handle *handle, struct archive_entry *entry, int acl_types,
                   struct err *err)
{
    const char *name;
    const void *value;
    size_t len;

    (void)archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &len) == 0) {
        if (name && set_one(handle, name, value, len, err) < 0) {
            return -1;
        }
    }
    if ((acl_types & ARCHIVE_ENTRY_ACL_TYPE_ACCESS) &&
        set_acl(handle, entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access", err) < 0) {
        return -1;
    }
    if ((acl_types & ARCHIVE_ENTRY_ACL_TYPE_DEFAULT) &&
        set_acl(handle, entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default", err) <
            0) {
        return -1;
    }
    return 0;
}

int rd_xattr_apply(struct rootdisk *disk, uint32_t ino, struct archive_entry *entry,
                   struct err *err)
{
    int acl_types = archive_entry_acl_types(entry);
    struct ext2_xattr_handle *handle = NULL;
    errcode_t code;
    int r;

    if (archive_entry_xattr_count(entry) == 0 && acl_types == 0) {
        return 0;
    }
    code = ext2fs_xattrs_open(disk->fs, ino, &handle);
    if (code) {
        return rd_err_ext2(err, code, "attributes");
    }
    r = set_all(handle, entry, acl_types, err);
    (void)ext2fs_xattrs_close(&handle);
    return r;
}
