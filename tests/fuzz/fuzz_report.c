/* What a guest's agent reports. */
#include "base/str.h"
#include "codec/api.h"
#include "codec/report.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *stats, *processes, *listeners;
    struct err err;

    if (size > REPORT_MAX_BYTES) {
        return 0;
    }
    stats = report_parse_stats((const char *)data, size);
    processes = report_parse_processes((const char *)data, size);
    listeners = report_parse_listeners((const char *)data, size);
    /* What is taken is what the protocol promises. */
    if (processes && api_check_result(api_method_find("vm.top"), processes, &err) < 0) {
        __builtin_trap();
    }
    if (listeners && api_check_result(api_method_find("vm.ports"), listeners, &err) < 0) {
        __builtin_trap();
    }
    if (stats && json_array_size(json_object_get(stats, "disks")) > REPORT_DISKS_MAX) {
        __builtin_trap();
    }
    json_decref(stats);
    json_decref(processes);
    json_decref(listeners);
    return 0;
}
