/* QMP lines, as the client splits them from what QEMU sends. */
#include "vmm/qemu/qmp_message.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        const uint8_t *newline = memchr(data, '\n', size);
        size_t len = newline ? (size_t)(newline - data) : size;
        struct qmp_message m;
        struct err err;

        err.code = ERR_NONE;
        if (qmp_message_parse((const char *)data, len, &m, &err) == 0) {
            /* What the kind promises is there. */
            if ((m.kind == QMP_EVENT && !m.name) || (m.kind == QMP_RETURN && !m.data) ||
                (m.kind == QMP_ERROR && (!m.name || !m.text)) || !m.root) {
                __builtin_trap();
            }
            qmp_message_done(&m);
        } else if (err.code != ERR_VMM) {
            __builtin_trap();
        }
        len += newline ? 1 : 0;
        data += len;
        size -= len;
    }
    return 0;
}
