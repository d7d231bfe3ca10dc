/* Shared by daemon.c and the files with RPC handlers. */
#pragma once

#include "base/cancel.h"
#include "base/loop.h"
#include "daemon/daemon.h"
#include "daemon/doctor.h"
#include "disk/space.h"
#include "dns/dns.h"
#include "events/events.h"
#include "image/image.h"
#include "net/net.h"
#include "ops/op.h"
#include "rpc/server.h"
#include "snapshot/template.h"
#include "store/store.h"
#include "vm/vm.h"

#include <stdatomic.h>

struct daemon {
    struct daemon_params params;
    char *agent_path, *mkroot_path;
    char *run_dir; /* <runtime dir>/vms */
    int64_t started_ms;
    bool passed_socket; /* its file is not ours to remove */
    int state_fd, cache_fd, runtime_fd, run_fd, lock_fd;
    struct cancel *stop;               /* triggered by daemon.stop, and when the helper is gone */
    struct loop_source *helper_source; /* control loop; or NULL */
    atomic_bool helper_gone;
    struct store *store;
    struct events *events;
    struct space *space;
    struct loop *control_loop, *guest_loop;
    struct image_registry *images;
    struct op_registry *vm_creates, *image_ops, *kernel_ops;
    struct daemon_doctor *doctor;
    struct nets *net;
    struct dns *dns; /* NULL: there is no network, or no name */
    struct loop *dns_loop;
    uint16_t dns_port; /* on 127.0.0.1; 0 = none */
    struct vms *vms;
    struct templates *templates; /* NULL: they are off */
    struct rpc_server *server;
};

/* Handlers of all methods; ctx is the daemon. */
extern const struct rpc_handler daemon_handlers[];

/* One list for the daemon's operation registries: ends with NULL. */
void daemon_op_registries(struct daemon *d, struct op_registry *ret_list[5]);

#define HANDLER(name)                                                                              \
    int name(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,          \
             struct err *err)

/* rpc_vm.c */
HANDLER(rpc_vm_create_begin);
HANDLER(rpc_vm_list);
HANDLER(rpc_vm_show);
HANDLER(rpc_vm_start);
HANDLER(rpc_vm_stop);
HANDLER(rpc_vm_restart);
HANDLER(rpc_vm_kill);
HANDLER(rpc_vm_pause);
HANDLER(rpc_vm_resume);
HANDLER(rpc_vm_set);
HANDLER(rpc_vm_touch);
HANDLER(rpc_vm_timeline);
HANDLER(rpc_vm_prune);
HANDLER(rpc_vm_delete);
HANDLER(rpc_vm_wait);
HANDLER(rpc_vm_logs);
HANDLER(rpc_vm_ping);
HANDLER(rpc_vm_stats);
HANDLER(rpc_vm_top);
HANDLER(rpc_vm_ports);
/* rpc_session.c */
HANDLER(rpc_session_start);
HANDLER(rpc_session_hold);
HANDLER(rpc_session_attach);
HANDLER(rpc_session_list);
HANDLER(rpc_session_wait);
/* rpc_file.c */
HANDLER(rpc_file_put);
HANDLER(rpc_file_get);
HANDLER(rpc_session_connect);
/* rpc_image.c */
HANDLER(rpc_image_list);
HANDLER(rpc_image_register_begin);
HANDLER(rpc_kernel_list);
HANDLER(rpc_kernel_import_begin);
/* rpc_template.c */
HANDLER(rpc_template_list);
HANDLER(rpc_template_show);
HANDLER(rpc_template_create_begin);
HANDLER(rpc_template_delete);
HANDLER(rpc_template_pool);
HANDLER(rpc_template_verify);
HANDLER(rpc_template_prune);
/* rpc_events.c */
HANDLER(rpc_events_list);
HANDLER(rpc_events_subscribe);
/* rpc_daemon.c */
HANDLER(rpc_daemon_ping);
HANDLER(rpc_daemon_status);
HANDLER(rpc_daemon_stop);
HANDLER(rpc_daemon_reconcile);
HANDLER(rpc_daemon_verify_store);
HANDLER(rpc_doctor);
HANDLER(rpc_config_show);
HANDLER(rpc_op_list);
HANDLER(rpc_op_status);
HANDLER(rpc_op_watch);
HANDLER(rpc_op_cancel);
