#include "vmm/vmm.h"

#include "base/str.h"

#include <sys/stat.h>
#include <unistd.h>

#define LOG_TAIL_MAX (64U * 1024)

const char *vmm_accel_name(enum vmm_accel accel)
{
    return accel == VMM_ACCEL_KVM ? "kvm" : "tcg";
}

const struct vmm_ops *vmm_ops_at(size_t i)
{
    static const struct vmm_ops *const all[] = {&vmm_qemu_ops, &vmm_fake_ops};

    return i < ARRAY_LEN(all) ? all[i] : NULL;
}

const struct vmm_ops *vmm_ops_find(const char *name)
{
    const struct vmm_ops *ops;

    for (size_t i = 0; (ops = vmm_ops_at(i)); i++) {
        if (str_eq(ops->name, name)) {
            return ops;
        }
    }
    return NULL;
}

char *vmm_log_tail(int log_fd, size_t most)
{
    _cleanup_free_ char *data = NULL;
    struct stat st;
    ssize_t n = 0;

    most = most < LOG_TAIL_MAX ? most : LOG_TAIL_MAX;
    data = x_calloc(1, most + 1);
    if (fstat(log_fd, &st) == 0) {
        n = pread(log_fd, data, most, st.st_size > (off_t)most ? st.st_size - (off_t)most : 0);
    }
    while (n > 0 && data[n - 1] == '\n') {
        n--;
    }
    return str_escape(data, n > 0 ? (size_t)n : 0, most);
}
