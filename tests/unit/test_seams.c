/* What the daemon does by others' functions: each of them is its constructor's argument, is what it
 * goes by, and may fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "base/thread.h"
#include "daemon/daemon_priv.h"
#include "daemon_fixture.h"
#include "disk/data_disk.h"
#include "vm/vm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOUR_MS 3600000
#define SOME_TIME_MS 1800000000000 /* 2027-01-15T08:00:00Z */
#define SOME_TIME "2027-01-15T08:00:00.000Z"
#define CONTENT "not much of an image\n"

static struct daemon *open_daemon(struct world *w)
{
    struct daemon *d = NULL;
    struct err err = {0};

    if (daemon_open(&w->params, &d, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return d;
}

/* Fake VMs have an image and a kernel by name. */
static void add_artifacts(struct daemon *d)
{
    struct artifact_row row = {.created_ms = 1, .config = (char *)"{}", .names = (char *)"[]"};
    struct err err;

    (void)snprintf(row.digest, sizeof(row.digest), "sha256:%064d", 1);
    assert_int_equal(store_artifact_publish(d->store, STORE_IMAGE, &row, "debian", &err), 0);
    assert_int_equal(store_artifact_publish(d->store, STORE_KERNEL, &row, "default", &err), 0);
}

/* Begins a vm.create with these parameters, and waits for its end: 0, or -1 with its error. */
static int create(struct daemon *d, const char *params, struct err *err)
{
    const struct api_method *method = api_method_find("vm.create.begin");
    _cleanup_json_ json_t *o = NULL, *op = NULL;
    _cleanup_(op_watch_end_p) struct op_watch *watch = NULL;
    const json_t *error;
    char id[ID_SIZE];
    bool ended = false;

    assert_int_equal(json_parse(params, strlen(params), &o, err), 0);
    assert_int_equal(api_validate(method, o, err), 0);
    api_fill_defaults(method, o);
    if (vms_create_begin(d->vms, d->vm_creates, o, id, NULL, err) < 0) {
        return -1;
    }
    assert_int_equal(op_watch_begin(d->vm_creates, id, false, &watch, err), 0);
    while (!ended) {
        json_decref(op);
        assert_int_equal(op_watch_next(watch, NULL, &op, &ended, err), 0);
    }
    error = json_object_get(op, "error");
    if (!json_is_object(error)) {
        return 0;
    }
    return err_set(err, ERR_INTERNAL, "%s", json_str(error, "message", "?"));
}

/* A member of a VM object, copied. */
static const char *show(struct daemon *d, const char *vm, const char *member)
{
    static char text[256];
    _cleanup_json_ json_t *o = NULL;
    struct err err;

    assert_int_equal(vms_show(d->vms, vm, &o, &err), 0);
    (void)snprintf(text, sizeof(text), "%s", json_str(o, member, "(none)"));
    return text;
}

static void assert_no_vm(struct daemon *d, const struct world *w, const char *vm)
{
    _cleanup_free_ char *run = world_path(w, "run/vms"), *state = world_path(w, "state/vms");
    const char *dirs[] = {run, state};
    json_t *o = NULL;
    struct err err;

    assert_int_equal(vms_show(d->vms, vm, &o, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        assert_true(access(dirs[i], F_OK) < 0 || count_entries(dirs[i]) == 2);
    }
}

/* Handlers ------------------------------------------------------------------------------------- */

static int say_hello(struct rpc_call *call, void *ctx, const json_t *params, json_t **ret_result,
                     struct err *err)
{
    struct daemon *d = ctx;

    (void)call;
    (void)params;
    (void)ret_result;
    return err_set(err, ERR_LIMIT, "hello from '%s'", d->params.paths->socket);
}

static void requests_go_to_the_given_handlers(void **state)
{
    static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"daemon.ping\"}\n";
    struct rpc_handler handlers[200];
    _cleanup_buf_ struct buf in = {.max = 65536};
    _cleanup_json_ json_t *reply = NULL;
    _cleanup_close_ int fd = -1;
    struct daemon *d;
    struct world w;
    struct err err;
    size_t n = 0;

    (void)state;
    do {
        assert_true(n < ARRAY_LEN(handlers));
        handlers[n] = daemon_handlers[n];
        if (handlers[n].method && str_eq(handlers[n].method, "daemon.ping")) {
            handlers[n].fn = say_hello;
        }
    } while (handlers[n++].method);
    world_new(&w);
    w.params.seams.handlers = handlers;
    d = open_daemon(&w);
    fd = fs_unix_connect(AT_FDCWD, w.paths.socket);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    while (in.len == 0 || buf_head(&in)[in.len - 1] != '\n') {
        assert_int_equal(cancel_wait_fd(NULL, fd, POLLIN, test_deadline()), 0);
        assert_true(buf_read_fd(&in, fd, 4096) > 0);
    }
    assert_int_equal(json_parse((const char *)buf_head(&in), in.len, &reply, &err), 0);
    assert_non_null(strstr(json_str(json_object_get(reply, "error"), "message", ""), "hello from"));
    daemon_close(d);
    world_done(&w);
}

/* Images --------------------------------------------------------------------------------------- */

static int build_something(const struct image_build *b, struct err *err)
{
    _cleanup_close_ int fd = openat(b->dir_fd, b->name, O_WRONLY | O_CREAT | O_EXCL, 0600);

    (void)err;
    assert_non_null(strstr(b->path, "source"));
    assert_true(fd >= 0 && b->from_fd >= 0);
    assert_int_equal(fs_write_all(fd, CONTENT, strlen(CONTENT)), 0);
    return 0;
}

/* Half of it is there when it fails. */
static int build_and_fail(const struct image_build *b, struct err *err)
{
    (void)build_something(b, err);
    return err_set(err, ERR_INVALID, "one brick is missing");
}

static int spawn_nothing(const struct spawn_params *params, pid_t *ret_pid, int *ret_pidfd)
{
    (void)params;
    (void)ret_pid;
    (void)ret_pidfd;
    return -ENOENT;
}

/* 0, or -1; there is an image or not. */
static int register_image(struct world *w, struct err *err)
{
    const struct image_progress progress = {.cancel = cancel_new()};
    _cleanup_free_ char *source = world_path(w, "source");
    _cleanup_json_ json_t *image = NULL, *list = NULL;
    struct daemon *d = open_daemon(w);
    struct err ignored;
    int r;

    scratch_write(&w->dir, "source", "whatever");
    r = image_register(d->images, "some", source, &progress, &image, err);
    assert_int_equal(image_list(d->images, STORE_IMAGE, &list, &ignored), 0);
    assert_int_equal(json_array_size(list), r == 0 ? 1 : 0);
    if (r == 0) {
        _cleanup_close_ int fd = -1;
        char text[sizeof(CONTENT)] = "";

        assert_int_equal(image_open_disk(d->images, json_str(image, "digest", ""), &fd, &ignored),
                         0);
        assert_int_equal(read(fd, text, sizeof(text)), strlen(CONTENT));
        assert_string_equal(text, CONTENT);
        assert_string_equal(json_str(image, "created_at", ""), SOME_TIME);
    }
    cancel_put(progress.cancel);
    daemon_close(d);
    return r;
}

static int64_t some_time(void)
{
    return SOME_TIME_MS;
}
static const struct clock stopped_clock = {some_time, some_time, some_time};

static void an_image_is_what_its_builder_makes(void **state)
{
    struct err err = {0};
    struct world w;

    (void)state;
    world_new(&w);
    w.params.seams.build_image = build_and_fail;
    w.params.seams.vm.clock = &stopped_clock;
    assert_int_equal(register_image(&w, &err), -1);
    assert_string_equal(err.message, "one brick is missing");
    w.params.seams.build_image = build_something;
    assert_int_equal(register_image(&w, &err), 0);
    world_done(&w);
}

static void processes_are_started_by_the_given_spawner(void **state)
{
    struct host_launch launch = {.argv = (const char *const[]){"qemu", NULL},
                                 .fds = (const struct spawn_fd[]){{0, 0}},
                                 .run_dir = "/x"};
    struct err err = {0};
    struct host_vmm vmm;
    struct host *host;
    struct world w;

    (void)state;
    world_new(&w);
    w.params.seams.vm.spawn = spawn_nothing;
    assert_int_equal(register_image(&w, &err), -1);
    assert_non_null(strstr(err.message, "cannot run '/bin/false'"));
    assert_non_null(strstr(err.hint, "installed completely"));
    assert_int_equal(
        data_disk_create(w.dir.fd, w.dir.fd, "disk", 64 << 20, spawn_nothing, NULL, &err), -1);
    assert_non_null(strstr(err.hint, "e2fsprogs"));
    host = host_local_new(&(struct host_local_params){.launcher = "/launcher",
                                                      .name = "x",
                                                      .cgroup_root = "/nonexistent",
                                                      .spawn = spawn_nothing});
    if (host->ops->launch(host, &launch, &vmm, &err) == 0) {
        fail();
    }
    assert_int_equal(err.code, ERR_UNSUPPORTED); /* also where there is no QEMU */
    host_free(host);
    world_done(&w);
}

/* Guests --------------------------------------------------------------------------------------- */

static atomic_int dialled, waited, commanded;
static atomic_bool no_dial, no_wait, no_command;

static int dial(int run_fd)
{
    atomic_fetch_add(&dialled, 1);
    return atomic_load(&no_dial) ? -EHOSTUNREACH : vm_dial(run_fd);
}

static int wait_agent(struct guest_link *link, struct cancel *cancel, int64_t deadline_ms,
                      struct err *err)
{
    atomic_fetch_add(&waited, 1);
    return atomic_load(&no_wait) ? err_set(err, ERR_GUEST, "nobody is at home")
                                 : guest_link_wait_hello(link, cancel, deadline_ms, err);
}

static int start_session(struct session_registry *sessions,
                         const struct session_start_params *params, char ret_id[ID_SIZE],
                         struct err *err)
{
    atomic_fetch_add(&commanded, 1);
    return atomic_load(&no_command) ? err_set(err, ERR_GUEST, "not in the mood")
                                    : session_start(sessions, params, ret_id, err);
}

static void guests_are_reached_by_what_was_given(void **state)
{
    static const char params[] = "{\"name\":\"x\",\"main\":{\"command\":[\"sleep\",\"1000\"]}}";
    static const struct {
        atomic_bool *fails;
        const char *said;
    } cases[] = {
        {&no_dial, "cannot connect to the VM's agent port: No route to host"},
        {&no_wait, "nobody is at home"},
        {&no_command, "not in the mood"},
    };
    struct err err = {0};
    struct daemon *d;
    struct world w;

    (void)state;
    world_new(&w);
    w.params.seams.vm.dial = dial;
    w.params.seams.vm.wait_agent = wait_agent;
    w.params.seams.vm.start_session = start_session;
    d = open_daemon(&w);
    add_artifacts(d);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        atomic_store(cases[i].fails, true);
        assert_int_equal(create(d, params, &err), -1);
        assert_non_null(strstr(err.message, cases[i].said));
        assert_no_vm(d, &w, "x");
        atomic_store(cases[i].fails, false);
    }
    atomic_store(&dialled, 0);
    atomic_store(&waited, 0);
    atomic_store(&commanded, 0);
    assert_int_equal(create(d, params, &err), 0);
    assert_string_equal(show(d, "x", "state"), "running");
    assert_true(dialled == 1 && waited >= 1 && commanded == 1);
    /* The next daemon reaches it the same way. */
    daemon_close(d);
    d = open_daemon(&w);
    assert_int_equal(dialled, 2);
    assert_int_equal(vms_delete(d->vms, "x", true, NULL, &err), 0);
    assert_no_vm(d, &w, "x");
    daemon_close(d);
    world_done(&w);
}

/* Time and chance ------------------------------------------------------------------------------ */

static atomic_llong later_ms;

static int64_t mono(void)
{
    return clock_mono_ms() + atomic_load(&later_ms);
}
static int64_t boot(void)
{
    return clock_boot_ms() + atomic_load(&later_ms);
}
static int64_t real(void)
{
    return SOME_TIME_MS + atomic_load(&later_ms);
}

static void time_is_what_the_clock_says(void **state)
{
    static const struct clock clock = {mono, boot, real};
    struct err err = {0};
    struct daemon *d;
    struct world w;

    (void)state;
    atomic_store(&later_ms, 0);
    world_new(&w);
    w.params.seams.vm.clock = &clock;
    d = open_daemon(&w);
    add_artifacts(d);
    assert_int_equal(
        create(d, "{\"name\":\"a\",\"start\":false,\"expires_after_ms\":3600000}", &err), 0);
    assert_int_equal(
        create(d, "{\"name\":\"b\",\"start\":false,\"expires_after_ms\":7200000}", &err), 0);
    assert_int_equal(create(d, "{\"name\":\"c\",\"auto_stop_after_ms\":1800000}", &err), 0);
    assert_string_equal(show(d, "a", "created_at"), SOME_TIME);
    assert_string_equal(show(d, "a", "expires_at"), "2027-01-15T09:00:00.000Z");
    assert_string_equal(show(d, "c", "started_at"), SOME_TIME);
    atomic_store(&later_ms, HOUR_MS);
    vm_policy_look(d->vms);
    assert_int_equal(vms_wait(d->vms, "a", VM_WAIT_DELETED, NULL, test_deadline(), &err), 0);
    assert_int_equal(vms_wait(d->vms, "c", VM_WAIT_STOPPED, NULL, test_deadline(), &err), 0);
    assert_string_equal(show(d, "c", "reason"), "idle");
    assert_string_equal(show(d, "c", "state_since"), "2027-01-15T09:00:00.000Z");
    assert_string_equal(show(d, "b", "state"), "created");
    daemon_close(d);
    world_done(&w);
}

static void no_chance(void *buf, size_t len)
{
    memset(buf, 0xab, len);
}

static void chance_is_what_it_was_given(void **state)
{
    static const char id[] = "abababababababababababababababab";
    struct err err = {0};
    struct daemon *d;
    struct world w;

    (void)state;
    world_new(&w);
    w.params.seams.vm.random = no_chance;
    d = open_daemon(&w);
    add_artifacts(d);
    assert_int_equal(create(d, "{\"name\":\"a\",\"start\":false}", &err), 0);
    assert_string_equal(show(d, "a", "id"), id);
    /* An id that is taken is nobody else's. */
    assert_int_equal(create(d, "{\"name\":\"b\",\"start\":false}", &err), -1);
    assert_string_equal(show(d, "a", "id"), id);
    assert_string_equal(show(d, id, "name"), "a");
    assert_int_equal(vms_start(d->vms, "a", NULL, &err), 0);
    assert_int_equal(vms_delete(d->vms, "a", true, NULL, &err), 0);
    assert_no_vm(d, &w, "a");
    daemon_close(d);
    world_done(&w);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_go_to_the_given_handlers),
        cmocka_unit_test(an_image_is_what_its_builder_makes),
        cmocka_unit_test(processes_are_started_by_the_given_spawner),
        cmocka_unit_test(guests_are_reached_by_what_was_given),
        cmocka_unit_test(time_is_what_the_clock_says),
        cmocka_unit_test(chance_is_what_it_was_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
