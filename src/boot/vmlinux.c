#include "boot/vmlinux.h"

#include "boot/decompress.h"
#include "boot/elf64.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Offsets in a bzImage, from Linux's Documentation/arch/x86/boot.rst. */
#define SETUP_SECTS 0x1f1
#define BOOT_FLAG 0x1fe
#define HEADER_MAGIC 0x202
#define PROTOCOL 0x206
#define KERNEL_VERSION 0x20e
#define PAYLOAD_OFFSET 0x248
#define PAYLOAD_LENGTH 0x24c
#define HEADER_END 0x250
#define PROTOCOL_PAYLOAD 0x0208 /* first with the payload fields */

#define PVH_NOTE_NAME "Xen"
#define PVH_NOTE_TYPE 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

static bool is_bzimage(const uint8_t *image, size_t len)
{
    return len >= HEADER_END && get16(image + BOOT_FLAG) == 0xaa55 &&
           memcmp(image + HEADER_MAGIC, "HdrS", 4) == 0;
}

static bool is_elf(const uint8_t *image, size_t len)
{
    return len >= SELFMAG && memcmp(image, ELFMAG, SELFMAG) == 0;
}

/* What people hand over by mistake. */
static const char *looks_like(const uint8_t *data, size_t len)
{
    static const struct {
        size_t at;
        const char *magic;
        size_t len;
        const char *what;
    } known[] = {
        {0, "!<arch>\n", 8, "a Debian package or another ar archive: unpack it first"},
        {0, "\xed\xab\xee\xdb", 4, "an RPM package: unpack it first"},
        {0, "070701", 6, "a cpio archive, perhaps an initramfs"},
        {257, "ustar", 5, "a tar archive: unpack it first"},
        {0, "PK\3\4", 4, "a zip archive: unpack it first"},
        {0, "#!", 2, "a script"},
        {0, "QFI\xfb", 4, "a qcow2 disk image"},
        {0, "hsqs", 4, "a squashfs image"},
        {56, "ARM\x64", 4, "a kernel for arm64, not x86-64"},
        {0, "\x27\x05\x19\x56", 4, "a U-Boot image"},
        {1080, "\x53\xef", 2, "an ext4 disk image"},
        {32769, "CD001", 5, "an ISO image"},
        {HEADER_MAGIC, "HdrS", 4, "a bzImage that is cut short or damaged"},
        {0, "MZ", 2, "a Windows or EFI program"},
        {510, "\x55\xaa", 2, "a disk with a boot sector"},
    };
    size_t i;

    for (i = 0; i < ARRAY_LEN(known); i++) {
        if (len >= known[i].at + known[i].len &&
            memcmp(data + known[i].at, known[i].magic, known[i].len) == 0) {
            return known[i].what;
        }
    }
    for (i = 0; i < len && i < 512 && (isprint(data[i]) || isspace(data[i])); i++) {
    }
    return i == len || i == 512 ? "text" : "unknown data";
}

static int not_a_kernel(const uint8_t *image, size_t len, struct err *err)
{
    enum compression kind = compression_detect(image, len);

    if (len == 0) {
        err_set(err, ERR_INVALID, "the kernel image is empty");
    } else if (kind != COMPRESSION_NONE) {
        err_set(err, ERR_INVALID, "no kernel image: this is %s-compressed data",
                compression_name(kind));
    } else {
        err_set(err, ERR_INVALID, "no kernel image: this looks like %s", looks_like(image, len));
    }
    return err_hint(err, "give a bzImage (vmlinuz) or an ELF vmlinux for x86-64");
}

static int damaged(struct err *err, const char *what)
{
    err_set(err, ERR_INVALID, "the kernel image is damaged or cut short: %s", what);
    return err_hint(err, "copy or unpack it again");
}

static uint64_t align_note(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* Whether the notes of a segment have a PVH entry. Bounded: each note moves on by 12 bytes. */
static bool has_pvh_note(const uint8_t *p, uint64_t len, uint64_t p_align)
{
    uint64_t align = p_align == 8 ? 8 : 4;

    while (len >= sizeof(Elf64_Nhdr)) {
        uint64_t name_size = get32(p), desc_size = get32(p + 4);
        uint64_t desc_at = align_note(sizeof(Elf64_Nhdr) + name_size, align);
        uint64_t end = align_note(desc_at + desc_size, align);

        if (desc_at + desc_size > len) {
            return false;
        }
        if (get32(p + 8) == PVH_NOTE_TYPE && name_size == sizeof(PVH_NOTE_NAME) &&
            memcmp(p + sizeof(Elf64_Nhdr), PVH_NOTE_NAME, sizeof(PVH_NOTE_NAME)) == 0 &&
            (desc_size == 4 || desc_size == 8)) {
            return true;
        }
        if (end >= len) {
            return false;
        }
        p += end;
        len -= end;
    }
    return false;
}

/* An ELF that elf64_open refuses: for another machine, or bytes that are missing. */
static int bad_elf(const uint8_t *elf, size_t len, struct err *err)
{
    if (len > EI_DATA && elf[EI_CLASS] == ELFCLASS64 && elf[EI_DATA] == ELFDATA2LSB &&
        (len < sizeof(Elf64_Ehdr) || get16(elf + offsetof(Elf64_Ehdr, e_machine)) == EM_X86_64)) {
        return damaged(err, "its ELF headers are not all there");
    }
    err_set(err, ERR_UNSUPPORTED, "the kernel is not for x86-64 (64 bit)");
    return err_hint(err, "use an x86-64 (amd64) kernel");
}

int vmlinux_check(const uint8_t *elf, size_t len, struct err *err)
{
    bool load = false, pvh = false;
    struct elf64 e;

    if (!is_elf(elf, len)) {
        return not_a_kernel(elf, len, err);
    }
    if (elf64_open(&e, elf, len) < 0) {
        return bad_elf(elf, len, err);
    }
    if (e.header.e_type != ET_EXEC) {
        err_set(err, ERR_INVALID, "no kernel image: this ELF file is a %s, no executable",
                e.header.e_type == ET_REL ? "module or object file" : "library or core dump");
        return err_hint(err, "give a bzImage (vmlinuz) or an ELF vmlinux for x86-64");
    }
    for (unsigned i = 0; i < e.header.e_phnum; i++) {
        Elf64_Phdr p;

        if (elf64_program(&e, i, &p) < 0) {
            return damaged(err, "a segment lies beyond its end");
        }
        load = load || p.p_type == PT_LOAD;
        pvh = pvh || (p.p_type == PT_NOTE && has_pvh_note(elf + p.p_offset, p.p_filesz, p.p_align));
    }
    if (!load) {
        return damaged(err, "it has no segment to load");
    }
    if (!pvh) {
        err_set(err, ERR_UNSUPPORTED, "the ELF file has no PVH entry point");
        return err_hint(err,
                        "use a Linux kernel built with CONFIG_PVH=y (Debian's and Ubuntu's are)");
    }
    return 0;
}

/* The payload of a bzImage, checked to lie in it. */
static int find_payload(const uint8_t *image, size_t len, const uint8_t **ret, size_t *ret_len,
                        struct err *err)
{
    uint32_t setup_sects = image[SETUP_SECTS] ? image[SETUP_SECTS] : 4;
    uint64_t at = (setup_sects + 1) * 512ULL + get32(image + PAYLOAD_OFFSET);
    uint32_t size = get32(image + PAYLOAD_LENGTH);

    if (get16(image + PROTOCOL) < PROTOCOL_PAYLOAD) {
        err_set(err, ERR_UNSUPPORTED, "the kernel is too old (boot protocol %u.%02u)",
                image[PROTOCOL + 1], image[PROTOCOL]);
        return err_hint(err, "use Linux 5.0 or newer");
    }
    if (at > len || size > len - at || size < 8) {
        return damaged(err, "its compressed part lies beyond its end");
    }
    *ret = image + at;
    *ret_len = size;
    return 0;
}

/* A payload ends with its uncompressed size; that of gzip is part of the stream itself. */
static int unpack_payload(enum compression kind, const uint8_t *p, size_t len, uint8_t **ret_elf,
                          size_t *ret_len, struct err *err)
{
    uint32_t claimed = get32(p + len - 4);
    _cleanup_free_ uint8_t *elf = NULL;
    size_t elf_len;
    int r;

    if (claimed > VMLINUX_MAX) {
        return err_set(err, ERR_LIMIT, "the kernel has %u MiB uncompressed, more than %u",
                       claimed >> 20, VMLINUX_MAX >> 20);
    }
    r = decompress_blob(kind, p, kind == COMPRESSION_GZIP ? len : len - 4, claimed, &elf, &elf_len);
    if (r == -EOPNOTSUPP) {
        err_set(err, ERR_UNSUPPORTED, "the kernel is compressed with %s, which is not supported",
                compression_name(kind));
        return err_hint(err, "use a kernel compressed with gzip, xz, zstd or lz4");
    }
    if (r == -ENOMEM) {
        return err_set_errno(err, ERR_IO, r, "cannot unpack the kernel");
    }
    if (r < 0) {
        return damaged(err, "its compressed part cannot be unpacked");
    }
    if (elf_len != claimed) {
        return damaged(err, "its compressed part has another size than it says");
    }
    *ret_elf = STEAL_PTR(elf);
    *ret_len = elf_len;
    return 0;
}

static int copy(const uint8_t *data, size_t len, uint8_t **ret, struct err *err)
{
    if (len > VMLINUX_MAX) {
        return err_set(err, ERR_LIMIT, "the kernel has %zu MiB, more than %u", len >> 20,
                       VMLINUX_MAX >> 20);
    }
    *ret = malloc(len);
    if (!*ret) {
        return err_set_errno(err, ERR_IO, ENOMEM, "cannot copy the kernel");
    }
    memcpy(*ret, data, len);
    return 0;
}

static int extract_bzimage(const uint8_t *image, size_t len, uint8_t **ret_elf, size_t *ret_len,
                           struct err *err)
{
    enum compression kind;
    const uint8_t *p = NULL;
    size_t size = 0;

    if (find_payload(image, len, &p, &size, err) < 0) {
        return -1;
    }
    kind = compression_detect(p, size);
    if (kind == COMPRESSION_NONE && is_elf(p, size)) {
        *ret_len = size;
        return copy(p, size, ret_elf, err);
    }
    if (kind == COMPRESSION_NONE) {
        err_set(err, ERR_UNSUPPORTED, "the kernel is compressed in an unknown way");
        return err_hint(err, "use a kernel compressed with gzip, xz, zstd or lz4");
    }
    return unpack_payload(kind, p, size, ret_elf, ret_len, err);
}

int vmlinux_extract(const uint8_t *image, size_t len, uint8_t **ret_elf, size_t *ret_len,
                    struct err *err)
{
    _cleanup_free_ uint8_t *elf = NULL;
    size_t elf_len = len;

    if (is_bzimage(image, len)) {
        if (extract_bzimage(image, len, &elf, &elf_len, err) < 0) {
            return -1;
        }
    } else {
        /* Checked before it is copied: most of what is wrong is found here. */
        if (vmlinux_check(image, len, err) < 0 || copy(image, len, &elf, err) < 0) {
            return -1;
        }
    }
    if (vmlinux_check(elf, elf_len, err) < 0) {
        return -1;
    }
    *ret_elf = STEAL_PTR(elf);
    *ret_len = elf_len;
    return 0;
}

/* Copies the first word of a version string. Only what may stand in a path component: it becomes
 * a directory's name. */
static bool take_release(const uint8_t *p, size_t len, char ret[VMLINUX_RELEASE_SIZE])
{
    size_t n = 0;

    while (n < len && (isalnum(p[n]) || (p[n] && strchr("._+~-", p[n])))) {
        n++;
    }
    if (n == 0 || n == len || n >= VMLINUX_RELEASE_SIZE || !isdigit(p[0]) ||
        (p[n] != ' ' && p[n] != '\0')) {
        return false;
    }
    memcpy(ret, p, n);
    ret[n] = '\0';
    return true;
}

int vmlinux_release(const uint8_t *image, size_t len, char ret_release[VMLINUX_RELEASE_SIZE],
                    struct err *err)
{
    static const char banner[] = "Linux version ";

    if (is_bzimage(image, len)) {
        size_t at = get16(image + KERNEL_VERSION) + 0x200UL;

        if (at > 0x200 && at < len && take_release(image + at, len - at, ret_release)) {
            return 0;
        }
        return err_set(err, ERR_INVALID, "the kernel image does not say its version");
    }
    if (!is_elf(image, len)) {
        return not_a_kernel(image, len, err);
    }
    for (const uint8_t *p = image, *end = image + len;
         (p = memmem(p, (size_t)(end - p), banner, sizeof(banner) - 1));) {
        p += sizeof(banner) - 1;
        if (take_release(p, (size_t)(end - p), ret_release)) {
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "the ELF file has no Linux version in it");
}
