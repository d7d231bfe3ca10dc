#include "boot_fixture.h"

#include <assert.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define MAX (4U << 20)
#define BANNER "Linux version 6.1.0-fixture (nobody) #1 SMP"

static void put(struct buf *b, const void *data, size_t len)
{
    int r = buf_append(b, data, len);

    assert(r == 0);
    (void)r;
}

static void put32(struct buf *b, uint32_t v)
{
    int r = buf_append_le32(b, v);

    assert(r == 0);
    (void)r;
}

void fixture_vmlinux(struct buf *ret)
{
    /* name size, description size, type, "Xen", entry */
    static const uint8_t note[] = {4, 0, 0,   0,   4,   0, 0, 0, 18, 0,
                                   0, 0, 'X', 'e', 'n', 0, 0, 0, 0,  1};
    static const char text[800] = "\x90\x90" BANNER;
    Elf64_Ehdr h = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_entry = 0x1000000,
        .e_phoff = sizeof(h),
        .e_ehsize = sizeof(h),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = 2,
    };
    Elf64_Phdr p[2] = {
        {.p_type = PT_NOTE, .p_offset = FIXTURE_ELF_NOTE, .p_filesz = sizeof(note), .p_align = 4},
        {.p_type = PT_LOAD,
         .p_offset = FIXTURE_ELF_NOTE + sizeof(note),
         .p_paddr = 0x1000000,
         .p_filesz = sizeof(text),
         .p_memsz = 2 * sizeof(text)},
    };

    buf_init(ret, MAX);
    put(ret, &h, sizeof(h));
    put(ret, p, sizeof(p));
    assert(ret->len == FIXTURE_ELF_NOTE);
    put(ret, note, sizeof(note));
    put(ret, text, sizeof(text));
}

static void put_gzip(struct buf *ret, const void *data, size_t len)
{
    z_stream z = {.next_in = (Bytef *)data, .avail_in = (uInt)len};
    uint8_t *to = buf_reserve(ret, len + 1024);
    int r = deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);

    z.next_out = to;
    z.avail_out = (uInt)len + 1024;
    assert(r == Z_OK);
    r = deflate(&z, Z_FINISH);
    assert(r == Z_STREAM_END);
    (void)r;
    buf_commit(ret, z.total_out);
    (void)deflateEnd(&z);
}

/* One block of the legacy frame. */
static void put_lz4(struct buf *ret, const void *data, size_t len)
{
    int bound = LZ4_compressBound((int)len), n;
    char *block = malloc((size_t)bound);

    n = LZ4_compress_default(data, block, (int)len, bound);
    assert(n > 0);
    put(ret, "\x02\x21\x4c\x18", 4);
    put32(ret, (uint32_t)n);
    put(ret, block, (size_t)n);
    free(block);
}

void fixture_compress(struct buf *ret, const void *data, size_t len, enum compression kind)
{
    static const struct {
        const char *bytes;
        size_t len;
    } unsupported[] = {
        [COMPRESSION_BZIP2] = {"BZh91AY&SY", 10},
        [COMPRESSION_LZMA] = {"\x5d\0\0\0\4", 5},
        [COMPRESSION_LZO] = {"\x89LZO\0\r\n\x1a\n", 9},
    };
    size_t n = 0;

    buf_init(ret, MAX);
    switch (kind) {
    case COMPRESSION_NONE:
        put(ret, data, len);
        break;
    case COMPRESSION_GZIP:
        put_gzip(ret, data, len);
        break;
    case COMPRESSION_XZ: {
        lzma_ret r = lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, data, len,
                                             buf_reserve(ret, len + 1024), &n, len + 1024);
        assert(r == LZMA_OK);
        (void)r;
        buf_commit(ret, n);
        break;
    }
    case COMPRESSION_ZSTD:
        n = ZSTD_compress(buf_reserve(ret, ZSTD_compressBound(len)), ZSTD_compressBound(len), data,
                          len, 3);
        assert(!ZSTD_isError(n));
        buf_commit(ret, n);
        break;
    case COMPRESSION_LZ4:
        put_lz4(ret, data, len);
        break;
    case COMPRESSION_BZIP2:
    case COMPRESSION_LZMA:
    case COMPRESSION_LZO:
    default:
        put(ret, unsupported[kind].bytes, unsupported[kind].len);
        break;
    }
}

void fixture_bzimage(struct buf *ret, const struct buf *elf, enum compression kind)
{
    _cleanup_buf_ struct buf payload;
    uint8_t setup[1024] = {0}; /* boot sector and one sector of setup code */

    fixture_compress(&payload, buf_head(elf), elf->len, kind);
    if (kind != COMPRESSION_GZIP && kind != COMPRESSION_NONE) {
        put32(&payload, (uint32_t)elf->len);
    }
    setup[0x1f1] = 1;
    memcpy(setup + 0x1fe, "\x55\xaa", 2);
    memcpy(setup + 0x202, "HdrS\x0f\x02", 6); /* protocol 2.15 */
    memcpy(setup + 0x20e, "\x00\x01", 2);     /* version string at 0x300 */
    memcpy(setup + 0x300, &BANNER[14], sizeof(BANNER) - 14);
    setup[0x248] = 16; /* the payload lies behind 16 bytes of code */
    memcpy(setup + 0x24c, &(uint32_t){(uint32_t)payload.len}, 4);
    buf_init(ret, MAX);
    put(ret, setup, sizeof(setup));
    put(ret, "0123456789abcdef", 16);
    put(ret, buf_head(&payload), payload.len);
}

void fixture_module(struct buf *ret, const char *modinfo, size_t modinfo_len)
{
    static const char names[] = "\0.modinfo\0.shstrtab";
    Elf64_Ehdr h = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_REL,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_shoff = sizeof(h),
        .e_ehsize = sizeof(h),
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = 3,
        .e_shstrndx = 2,
    };
    Elf64_Shdr s[3] = {
        {0},
        {.sh_name = 1,
         .sh_type = SHT_PROGBITS,
         .sh_offset = sizeof(h) + sizeof(s),
         .sh_size = modinfo_len},
        {.sh_name = 10,
         .sh_type = SHT_STRTAB,
         .sh_offset = sizeof(h) + sizeof(s) + modinfo_len,
         .sh_size = sizeof(names)},
    };

    buf_init(ret, MAX);
    put(ret, &h, sizeof(h));
    put(ret, s, sizeof(s));
    put(ret, modinfo, modinfo_len);
    put(ret, names, sizeof(names));
}
