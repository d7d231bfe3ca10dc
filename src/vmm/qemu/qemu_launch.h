/* Starting QEMU: sockets, descriptors, command line; and asking it for its version. Stateless. */
#pragma once

#include "host/host.h"
#include "vmm/vmm.h"

/* In the run directory. */
#define QEMU_AGENT_SOCKET "agent.sock"
#define QEMU_QMP_SOCKET "qmp.sock"

/* Returns once the process runs. The caller owns *ret_qmp_fd, which is connected to its QMP socket,
 * and the descriptors of *ret_process. */
int qemu_start(const struct vmm_spec *spec, struct host_vmm *ret_process, int *ret_qmp_fd,
               struct err *err);

/* struct vmm_ops: version. */
int qemu_version(char *ret_version, struct err *err);
