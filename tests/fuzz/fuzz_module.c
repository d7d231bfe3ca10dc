/* Kernel modules: the names that come out are names, each once. */
#include "boot/modules.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_signature(const uint8_t *data, size_t size)
{
    struct boot_module m = {.name = "m", .data = (uint8_t *)data, .len = size};
    struct module_list list = {.items = &m, .count = 1};

    module_list_strip_signatures(&list);
    if (m.len > size) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct module_info info;

    check_signature(data, size);
    if (module_info(data, size, &info) < 0) {
        return 0;
    }
    for (size_t i = 0; i < info.dep_count; i++) {
        if (!module_name_valid(info.deps[i].name) || strchr(info.deps[i].name, '-') ||
            info.dep_count > MODULES_MAX) {
            __builtin_trap();
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(info.deps[i].name, info.deps[k].name) == 0) {
                __builtin_trap();
            }
        }
    }
    module_info_done(&info);
    return 0;
}
