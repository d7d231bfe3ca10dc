/* Kernel images: an ELF that comes out is one that a VMM may be given; an error says something. */
#include "boot/vmlinux.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char release[VMLINUX_RELEASE_SIZE];
    uint8_t *elf = NULL;
    size_t len = 0;
    struct err err = {.code = ERR_NONE};

    if (vmlinux_extract(data, size, &elf, &len, &err) == 0) {
        if (err.code != ERR_NONE || len == 0 || vmlinux_check(elf, len, &err) < 0) {
            __builtin_trap();
        }
        free(elf);
    } else if (err.code == ERR_NONE || err.message[0] == '\0' || elf) {
        __builtin_trap();
    }
    err.code = ERR_NONE;
    if (vmlinux_release(data, size, release, &err) == 0) {
        /* It becomes a directory's name. */
        if (!release[0] || release[0] == '.' || strchr(release, '/') ||
            strlen(release) >= VMLINUX_RELEASE_SIZE) {
            __builtin_trap();
        }
    } else if (err.code == ERR_NONE) {
        __builtin_trap();
    }
    return 0;
}
