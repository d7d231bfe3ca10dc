#include "boot/elf64.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool inside(uint64_t offset, uint64_t size, size_t len)
{
    return offset <= len && size <= len - offset;
}

int elf64_open(struct elf64 *ret, const uint8_t *data, size_t len)
{
    struct elf64 e = {.data = data, .len = len};
    const Elf64_Ehdr *h = &e.header;

    if (len < sizeof(e.header)) {
        return -EPROTO;
    }
    memcpy(&e.header, data, sizeof(e.header));
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
        h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64) {
        return -EPROTO;
    }
    if (h->e_phnum > 0 &&
        (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum > ELF64_PROGRAMS_MAX ||
         !inside(h->e_phoff, h->e_phnum * sizeof(Elf64_Phdr), len))) {
        return -EPROTO;
    }
    if (h->e_shnum > 0 && (h->e_shentsize != sizeof(Elf64_Shdr) ||
                           !inside(h->e_shoff, h->e_shnum * sizeof(Elf64_Shdr), len))) {
        return -EPROTO;
    }
    *ret = e;
    return 0;
}

int elf64_program(const struct elf64 *e, unsigned i, Elf64_Phdr *ret)
{
    Elf64_Phdr p;

    memcpy(&p, e->data + e->header.e_phoff + i * sizeof(p), sizeof(p));
    if (!inside(p.p_offset, p.p_filesz, e->len) ||
        (p.p_type == PT_LOAD && p.p_filesz > p.p_memsz)) {
        return -EPROTO;
    }
    *ret = p;
    return 0;
}

int elf64_section(const struct elf64 *e, unsigned i, Elf64_Shdr *ret)
{
    Elf64_Shdr s;

    memcpy(&s, e->data + e->header.e_shoff + i * sizeof(s), sizeof(s));
    if (s.sh_type != SHT_NOBITS && !inside(s.sh_offset, s.sh_size, e->len)) {
        return -EPROTO;
    }
    *ret = s;
    return 0;
}

int elf64_find_section(const struct elf64 *e, const char *name, Elf64_Shdr *ret)
{
    size_t size = strlen(name) + 1;
    Elf64_Shdr names, s;

    if (e->header.e_shnum == 0) {
        return 0;
    }
    if (e->header.e_shstrndx >= e->header.e_shnum ||
        elf64_section(e, e->header.e_shstrndx, &names) < 0 || names.sh_type != SHT_STRTAB) {
        return -EPROTO;
    }
    for (unsigned i = 0; i < e->header.e_shnum; i++) {
        if (elf64_section(e, i, &s) < 0 || s.sh_name >= names.sh_size) {
            return -EPROTO;
        }
        if (size <= names.sh_size - s.sh_name &&
            memcmp(e->data + names.sh_offset + s.sh_name, name, size) == 0) {
            if (s.sh_type == SHT_NOBITS) {
                return -EPROTO;
            }
            *ret = s;
            return 1;
        }
    }
    return 0;
}
