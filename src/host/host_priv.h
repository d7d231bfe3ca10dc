/* Shared by the files of host/ and their unit tests. */
#pragma once

#include "host/host.h"

/* FNV-1a. */
uint64_t host_hash(const char *text);

/* What of a request is not allowed, or NULL. Run directories are in runtime_dir/vms/. */
const char *host_check_launch(const struct host_launch *params, const char *runtime_dir);
const char *host_check_vmm(const struct vmm_process *process, const char *run_dir,
                           uint64_t disk_bytes, const char *runtime_dir);

/* The same of networks; nic is of a subnet that host_check_subnet allowed. */
const char *host_check_subnet(const struct host_subnet *subnet);
const char *host_check_tap(unsigned tap);
const char *host_check_nic(const struct host_nic *nic, const struct host_subnet *subnet);
