/* The daemon's side of networks: subnets, places and TAPs, over a host that only keeps count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "net/net.h"
#include "scratch.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* A host of which TAPs are numbers. */
struct world {
    struct host host;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool taps[HOST_TAPS_MAX], held[HOST_TAPS_MAX];
    unsigned count, opens, deletes, closes;
    struct host_subnet subnet;
    uint32_t refused; /* a subnet that is somebody's */
    bool no_rights, no_taps;
    unsigned mtu; /* of the uplinks; 0 = 1400 */
};

struct fixture {
    struct world world;
    struct scratch dir;
    struct store *store;
    struct loop *loop;
    struct nets *net;
};

static struct world *world_of(struct host *host)
{
    return (struct world *)(void *)host;
}

static int do_open(struct host *host, const struct host_subnet *subnet, unsigned *ret_mtu,
                   struct err *err)
{
    struct world *w = world_of(host);

    if (w->no_rights) {
        return err_set(err, ERR_UNSUPPORTED, "no rights");
    }
    if (subnet->ipv4 == w->refused) {
        return err_set(err, ERR_CONFLICT, "that is somebody's");
    }
    w->subnet = *subnet;
    *ret_mtu = w->mtu ? w->mtu : 1400;
    return 0;
}

static int do_refresh(struct host *host, unsigned *ret_mtu, struct err *err)
{
    (void)host;
    (void)err;
    *ret_mtu = 1300;
    return 0;
}

static int do_tap_open(struct host *host, unsigned tap, int *ret_fd, struct err *err)
{
    struct world *w = world_of(host);
    int r = 0;

    (void)pthread_mutex_lock(&w->mutex);
    w->opens++;
    if (w->no_taps) {
        r = err_set(err, ERR_IO, "no more");
    } else if (w->held[tap]) {
        r = err_set(err, ERR_BUSY, "somebody has it");
    } else {
        w->count += !w->taps[tap];
        w->taps[tap] = true;
        *ret_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->mutex);
    return r;
}

static int do_tap_delete(struct host *host, const unsigned *taps, size_t count, struct err *err)
{
    struct world *w = world_of(host);

    (void)err;
    (void)pthread_mutex_lock(&w->mutex);
    w->deletes++;
    for (size_t i = 0; i < count; i++) {
        w->count -= w->taps[taps[i]];
        w->taps[taps[i]] = false;
    }
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->mutex);
    return 0;
}

static int do_tap_list(struct host *host, unsigned **ret_taps, size_t *ret_count, struct err *err)
{
    struct world *w = world_of(host);
    size_t count = 0;

    (void)err;
    *ret_taps = x_calloc(w->count + 1, sizeof(**ret_taps));
    for (unsigned tap = 0; tap < HOST_TAPS_MAX; tap++) {
        if (w->taps[tap]) {
            (*ret_taps)[count++] = tap;
        }
    }
    *ret_count = count;
    return 0;
}

static int do_close(struct host *host, struct err *err)
{
    (void)err;
    world_of(host)->closes++;
    return 0;
}

static const struct host_ops ops = {
    .mode = "count",
    .net_open = do_open,
    .net_refresh = do_refresh,
    .net_close = do_close,
    .tap_open = do_tap_open,
    .tap_delete = do_tap_delete,
    .tap_list = do_tap_list,
};

static void await_count(struct world *w, unsigned count)
{
    (void)pthread_mutex_lock(&w->mutex);
    while (w->count != count) {
        (void)pthread_cond_wait(&w->changed, &w->mutex);
    }
    (void)pthread_mutex_unlock(&w->mutex);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    f->world.host.ops = &ops;
    (void)pthread_mutex_init(&f->world.mutex, NULL);
    (void)pthread_cond_init(&f->world.changed, NULL);
    f->dir = scratch_new();
    assert_int_equal(store_open(f->dir.fd, &f->store, &err), 0);
    assert_int_equal(loop_new("test", &f->loop), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    nets_free(f->net);
    loop_free(f->loop);
    store_close(f->store);
    scratch_done(&f->dir);
    (void)pthread_cond_destroy(&f->world.changed);
    (void)pthread_mutex_destroy(&f->world.mutex);
    free(f);
    return 0;
}

static int open_net(struct fixture *f, const char *mode, const char *subnet, unsigned pool,
                    struct err *err)
{
    nets_free(STEAL_PTR(f->net));
    return nets_new(&(struct nets_params){.host = &f->world.host,
                                          .store = f->store,
                                          .mode = mode,
                                          .subnet = subnet,
                                          .tap_pool_size = pool},
                    &f->net, err);
}

static void begin(struct fixture *f, const char *subnet, unsigned pool)
{
    struct err err;

    assert_int_equal(open_net(f, "auto", subnet, pool, &err), 0);
    assert_null(nets_why_not(f->net));
}

static void start(struct fixture *f)
{
    struct err err;

    assert_int_equal(nets_start(f->net, f->loop, &err), 0);
}

static void a_subnet_is_chosen_and_kept_until_it_is_somebodys(void **state)
{
    struct fixture *f = *state;
    char ipv4[NET_TEXT_SIZE], ipv6[NET_TEXT_SIZE], before[NET_TEXT_SIZE];

    f->world.refused = 0x0AC90000;
    begin(f, "auto", 0);
    nets_subnets(f->net, ipv4, before);
    assert_string_equal(ipv4, "10.232.0.0/16");
    assert_int_equal(strncmp(before, "fd", 2), 0);
    /* The first choice is free by now, and not taken. */
    f->world.refused = 0;
    begin(f, "auto", 0);
    nets_subnets(f->net, ipv4, ipv6);
    assert_string_equal(ipv4, "10.232.0.0/16");
    assert_string_equal(ipv6, before);
    f->world.refused = 0x0AE80000;
    begin(f, "auto", 0);
    nets_subnets(f->net, ipv4, ipv6);
    assert_string_equal(ipv4, "10.201.0.0/16");
    assert_string_equal(ipv6, before);
    assert_int_equal(nets_mtu(f->net), 1400);
    f->world.mtu = 65536;
    begin(f, "172.20.0.0/20", 0);
    assert_int_equal(nets_mtu(f->net), 1500);
    nets_subnets(f->net, ipv4, ipv6);
    assert_string_equal(ipv4, "172.20.0.0/20");
}

static void what_is_no_subnet_is_refused(void **state)
{
    static const char *const bad[] = {
        "10.201.0.0",     "10.201.0.0/25", "10.201.0.0/7", "10.201.0.1/16",
        "10.201.0/16",    "fd00::/16",     "/16",          "",
        "10.201.0.0/16x", "10.201.0.0/ 16"};
    struct fixture *f = *state;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(open_net(f, "auto", bad[i], 0, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(f->net);
    }
}

static void where_there_is_none_it_says_why(void **state)
{
    struct fixture *f = *state;
    struct err err;

    f->world.no_rights = true;
    assert_int_equal(open_net(f, "nat", "auto", 4, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_int_equal(open_net(f, "auto", "auto", 4, &err), 0);
    assert_string_equal(nets_why_not(f->net), "no rights");
    assert_int_equal(nets_slot_take(f->net), 0);
    start(f);
    f->world.no_rights = false;
    assert_int_equal(open_net(f, "none", "auto", 4, &err), 0);
    assert_non_null(strstr(nets_why_not(f->net), "network = \"none\""));
    assert_int_equal(f->world.opens, 0);
    assert_int_equal(f->world.closes, 0);
    /* What was made for VMs when there was one goes. */
    begin(f, "auto", 0);
    assert_int_equal(open_net(f, "none", "auto", 4, &err), 0);
    assert_int_equal(f->world.closes, 1);
}

static uint32_t address(struct fixture *f, unsigned slot)
{
    return nets_slot_nic(f->net, slot).ipv4;
}

static void places_are_used_again_last_and_have_addresses_of_their_own(void **state)
{
    struct fixture *f = *state;
    uint32_t last = 0;
    unsigned slot;

    begin(f, "10.9.0.0/22", 0);
    assert_true(nets_slot_keep(f->net, 0));
    assert_true(nets_slot_keep(f->net, 3));
    assert_false(nets_slot_keep(f->net, 4 * 254)); /* of a larger subnet */
    /* Behind what a VM has. */
    assert_int_equal(nets_slot_take(f->net), 4);
    nets_slot_give(f->net, 4);
    nets_slot_give(f->net, 4);
    nets_slot_give(f->net, 0);
    nets_slot_give(f->net, 100000);
    assert_int_equal(nets_count(f->net).slots, 4 * 254 - 1);
    assert_int_equal(nets_count(f->net).slots_used, 1);
    for (unsigned i = 0; i < 4 * 254 - 2; i++) {
        slot = nets_slot_take(f->net);
        assert_true(slot > 0 && slot != 3);
        assert_true(address(f, slot) > 0x0A090001 && address(f, slot) < 0x0A0903FF);
        assert_true((address(f, slot) & 0xFF) != 0 && (address(f, slot) & 0xFF) != 0xFF);
        last = slot == 4 ? i : last;
    }
    assert_int_equal(last, 4 * 254 - 3);
    assert_int_equal(nets_slot_take(f->net), 0);
    nets_slot_give(f->net, 3);
    nets_slot_give(f->net, 7);
    assert_int_equal(nets_slot_take(f->net), 3);
    assert_int_equal(nets_slot_take(f->net), 7);
    assert_int_equal(nets_gateway(f->net).ipv4, 0x0A090001);
    assert_string_equal(nets_gateway_text(f->net), "10.9.0.1");
    assert_int_equal(address(f, 1), 0x0A090002);
    assert_int_equal(address(f, 253), 0x0A0900FE);
    assert_int_equal(address(f, 254), 0x0A090101);
}

static void a_subnet_has_room_for_16000(void **state)
{
    struct fixture *f = *state;
    uint32_t before = 0;

    begin(f, "auto", 0);
    for (unsigned i = 0; i < 16000; i++) {
        uint32_t now = address(f, nets_slot_take(f->net));

        assert_true(now > before);
        before = now;
    }
}

static unsigned take(struct fixture *f)
{
    struct err err;
    unsigned tap;
    int fd;

    assert_int_equal(nets_tap_take(f->net, &tap, &fd, &err), 0);
    assert_true(fd >= 0);
    (void)close(fd);
    return tap;
}

static void some_taps_are_ready_and_a_burst_does_not_fail(void **state)
{
    struct fixture *f = *state;
    unsigned taps[20];

    begin(f, "auto", 3);
    start(f);
    await_count(&f->world, 3);
    for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
        taps[i] = take(f);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(taps[k], taps[i]);
        }
    }
    await_count(&f->world, 23);
    for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
        nets_tap_give(f->net, taps[i]);
        nets_tap_give(f->net, taps[i]); /* undone twice */
    }
    await_count(&f->world, 3);
    assert_int_equal(nets_count(f->net).taps_used, 0);
    assert_int_equal(f->world.closes, 0);
    nets_free(STEAL_PTR(f->net));
    assert_int_equal(f->world.count, 0);
    assert_int_equal(f->world.closes, 1);
}

static void taps_of_vms_that_run_on_are_left_alone(void **state)
{
    struct fixture *f = *state;

    for (unsigned tap = 0; tap < 6; tap++) {
        f->world.taps[tap * 100] = true;
        f->world.count++;
    }
    f->world.held[200] = true;
    begin(f, "auto", 1);
    /* One that ends before they have said so. */
    nets_free(STEAL_PTR(f->net));
    assert_int_equal(f->world.count, 6);
    assert_int_equal(f->world.closes, 0);
    begin(f, "auto", 1);
    nets_tap_keep(f->net, 200);
    nets_tap_keep(f->net, 200);
    nets_tap_keep(f->net, HOST_TAPS_MAX);
    start(f);
    await_count(&f->world, 2);
    assert_true(f->world.taps[200]);
    assert_int_equal(nets_count(f->net).taps_used, 1);
    nets_free(STEAL_PTR(f->net));
    assert_int_equal(f->world.count, 1);
    assert_true(f->world.taps[200]);
    assert_int_equal(f->world.closes, 0); /* that VM has its network still */
}

static void taps_that_somebody_else_has_are_passed_over(void **state)
{
    struct fixture *f = *state;
    struct err err;
    unsigned tap;
    int fd;

    f->world.held[0] = f->world.held[1] = true;
    begin(f, "auto", 0);
    assert_int_equal(take(f), 2);
    f->world.no_taps = true;
    assert_int_equal(nets_tap_take(f->net, &tap, &fd, &err), -1);
    assert_string_equal(err.message, "no more");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_subnet_is_chosen_and_kept_until_it_is_somebodys),
        TEST(what_is_no_subnet_is_refused),
        TEST(where_there_is_none_it_says_why),
        TEST(places_are_used_again_last_and_have_addresses_of_their_own),
        TEST(a_subnet_has_room_for_16000),
        TEST(some_taps_are_ready_and_a_burst_does_not_fail),
        TEST(taps_of_vms_that_run_on_are_left_alone),
        TEST(taps_that_somebody_else_has_are_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
