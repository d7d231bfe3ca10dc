/*
 * The link to a guest's agent: how it comes up, its requests and pings, and how it ends. The agent
 * is the other end of a socketpair here (link_fixture.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "link_fixture.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static void hello_is_found_behind_garbage(void **state)
{
    struct fixture *f = *state;
    static const uint8_t other[FRAME_NONCE_SIZE] = {1, 2, 3};
    _cleanup_buf_ struct buf out;
    struct err err;

    buf_init(&out, 8 * FRAME_MAX);
    assert_int_equal(frame_put_resync(&out), 0);
    for (unsigned i = 0; i < 3 * FRAME_MAX; i++) {
        assert_int_equal(buf_append_u8(&out, i % 7 ? (uint8_t)(i * 37) : FRAME_MAGIC), 0);
    }
    (void)put_hello_ok(&out, other, 0);
    /* The end of a frame of the old host, with a nonce like ours where no hello begins. */
    assert_int_equal(buf_append(&out, f->nonce, sizeof(f->nonce)), 0);
    assert_int_equal(buf_append_str(&out, "and what was behind it, of no meaning here"), 0);
    peer_write(&f->agent, buf_head(&out), out.len);
    assert_false(guest_link_is_up(f->link));
    buf_consume(&out, out.len);
    (void)put_hello_ok(&out, f->nonce, 0);
    for (size_t i = 0; i < out.len; i += 7) { /* and in small pieces */
        peer_write(&f->agent, buf_head(&out) + i, out.len - i < 7 ? out.len - i : 7);
    }
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    assert_link_up(f);
}

static void an_adopted_port_is_resynchronised_first(void **state)
{
    struct fixture *f = *state;
    struct peer *agent = &f->agent;
    struct err err;

    open_link(f, true);
    while (agent->in.len < FRAME_MAX) {
        assert_true(peer_fill(agent) > 0);
    }
    for (size_t i = 0; i < FRAME_MAX; i++) {
        assert_int_equal(buf_head(&agent->in)[i], 0);
    }
    buf_consume(&agent->in, FRAME_MAX);
    agent_take_hello(f);
    agent_hello_ok(f, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
}

static void listed_sessions_take_their_numbers(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct err err;

    agent_hello_ok(f, 2);
    agent_send_session(f, 7, FRAME_SESSION_RUNNING, 0, 0);
    assert_false(guest_link_is_up(f->link)); /* the second one is still to come */
    agent_send_session(f, 3, FRAME_SESSION_EXITED, 0, 0);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    assert_int_equal(start_session(f, "closed", id), 8);
}

static void waiting_for_hello_ends_at_deadline_or_cancel(void **state)
{
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct fixture *f = *state;
    struct err err;

    assert_int_equal(guest_link_wait_hello(f->link, NULL, clock_mono_ms(), &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_string_equal(err.message, "the guest did not answer in time: hello");
    cancel_trigger(cancel);
    assert_int_equal(guest_link_wait_hello(f->link, cancel, -1, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
}

static void the_agents_last_words_before_hello_are_told(void **state)
{
    static const char words[] = "no root disk: /dev/vda\x1b[31m is not there, whatever was tried";
    static const char want[] =
        "the guest's agent gave up: no root disk: /dev/vda\\x1b[31m is not there, whatever was tried";
    struct fixture *f = *state;
    _cleanup_buf_ struct buf out;
    char whole[300];
    struct err err;

    buf_init(&out, FRAME_MAX);
    assert_int_equal(frame_put(&out, &(struct frame){.type = FRAME_FATAL,
                                                     .payload = (const uint8_t *)words,
                                                     .length = strlen(words)}),
                     0);
    /* In pieces: the link has read the first one before the second comes. */
    peer_write(&f->agent, buf_head(&out), out.len - 10);
    settle(f);
    assert_false(was_noted(f, NOTED_BROKEN));
    peer_write(&f->agent, buf_head(&out) + out.len - 10, 10);
    assert_broken(f, want);
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), -1);
    assert_int_equal(err.code, ERR_GUEST);
    (void)snprintf(whole, sizeof(whole), "the guest's agent is not there: %s", want);
    assert_string_equal(err.message, whole);
}

static void the_agents_last_words_later_are_told(void **state)
{
    struct fixture *f = *state;

    peer_send(&f->agent, &(struct frame){.type = FRAME_FATAL,
                                         .payload = (const uint8_t *)"out of memory",
                                         .length = 13});
    assert_broken(f, "the guest's agent gave up: out of memory");
}

/* NULL or 0: not told. */
static void agent_send_all(struct fixture *f, uint32_t stream, const char *name, const char *id,
                           uint64_t time_ns, const char *boot_id, bool has_init)
{
    _cleanup_buf_ struct buf b;
    uint8_t time[8];

    buf_init(&b, 512);
    for (int i = 0; i < 8; i++) {
        time[i] = (uint8_t)(time_ns >> (8 * i));
    }
    assert_int_equal(buf_append_le32(&b, 0), 0);
    if (time_ns) {
        assert_int_equal(frame_put_tlv(&b, FRAME_TAG_TIME, time, sizeof(time)), 0);
    }
    if (name) {
        assert_int_equal(frame_put_tlv(&b, FRAME_TAG_HOSTNAME, name, strlen(name)), 0);
    }
    if (id) {
        assert_int_equal(frame_put_tlv(&b, FRAME_TAG_MACHINE_ID, id, strlen(id)), 0);
    }
    if (boot_id) {
        assert_int_equal(frame_put_tlv(&b, FRAME_TAG_BOOT_ID, boot_id, strlen(boot_id)), 0);
    }
    if (has_init) {
        assert_int_equal(frame_put_tlv(&b, FRAME_TAG_INIT, "", 0), 0);
    }
    assert_int_equal(frame_put_tlv(&b, 200, "of a newer agent", 16), 0);
    peer_send(&f->agent, &(struct frame){.type = FRAME_REPLY,
                                         .stream = stream,
                                         .payload = buf_head(&b),
                                         .length = (uint32_t)b.len});
}

static void agent_send_identity(struct fixture *f, uint32_t stream, const char *name,
                                const char *id, uint64_t time_ns, const char *boot_id)
{
    agent_send_all(f, stream, name, id, time_ns, boot_id, false);
}

static void requests_are_answered(void **state)
{
    struct fixture *f = *state;
    struct task t = {0}, t2 = {0};
    struct frame_reader r;
    const uint8_t *value;
    struct frame req;
    uint32_t len, sync_id;
    uint8_t tag;

    task_begin(&t, f, do_configure);
    req = peer_expect(&f->agent, FRAME_CONFIGURE);
    r = frame_reader(&req);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_ENTROPY);
    assert_int_equal(len, 64);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_TIME);
    assert_memory_equal(value, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_MACHINE_ID);
    assert_int_equal(len, 32);
    assert_memory_equal(value, CONFIGURED_ID, 32);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 1);
    assert_int_equal(tag, FRAME_TAG_HOSTNAME);
    assert_int_equal(len, 2);
    assert_memory_equal(value, "vm", 2);
    assert_int_equal(frame_take_tlv(&r, &tag, &value, &len), 0);
    agent_send_identity(f, req.stream, "vm", CONFIGURED_ID, 0x0102030405060708, NULL);
    assert_int_equal(task_end(&t), 0);

    /* Two at once, answered the other way round; one is refused. */
    task_begin(&t, f, do_sync);
    sync_id = peer_expect(&f->agent, FRAME_SYNC).stream;
    task_begin(&t2, f, do_poweroff);
    req = peer_expect(&f->agent, FRAME_POWEROFF);
    assert_int_not_equal(req.stream, sync_id);
    agent_send_u32(f, FRAME_REPLY, 999, 5); /* nobody's */
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    assert_int_equal(task_end(&t2), 0);
    peer_send(&f->agent, &(struct frame){.type = FRAME_REPLY,
                                         .stream = sync_id,
                                         .payload = (const uint8_t *)"\x05\0\0\0I/O \x07 error",
                                         .length = 15});
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    assert_string_equal(t.err.message, "sync: the guest answered: I/O \\x07 error");
    peer_send(&f->agent, &(struct frame){.type = FRAME_GOING_DOWN});
    wait_for(f, NOTED_DOWN);
    assert_link_up(f);
}

static void a_guest_is_who_it_is_told_to_be_or_does_not_come_up(void **state)
{
    static const uint64_t now = 0x0102030405060708, second = 1000000000;
    static const struct {
        const char *name, *id;
        uint64_t time_ns;
        const char *said; /* NULL: that will do */
    } cases[] = {
        {"vm", CONFIGURED_ID, now, NULL},
        {"vm", NULL, now, NULL}, /* its disk is full */
        {"vm", CONFIGURED_ID, now + second / 2, NULL},
        {"vm", CONFIGURED_ID, now - 1, "its clock"},
        {"vm", CONFIGURED_ID, now + 1000 * second, "its clock"},
        {"vm", CONFIGURED_ID, 0, "its clock"},
        {"v", CONFIGURED_ID, now, "its name"},
        {"vm2", CONFIGURED_ID, now, "its name"},
        {NULL, CONFIGURED_ID, now, "its name"},
        {"vm", "0123456789abcdef0123456789abcdee", now, "its machine-id"},
        {"vm", "", now, "its machine-id"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct task t = {0};

        task_begin(&t, f, do_configure);
        agent_send_identity(f, peer_expect(&f->agent, FRAME_CONFIGURE).stream, cases[i].name,
                            cases[i].id, cases[i].time_ns, NULL);
        assert_int_equal(task_end(&t), cases[i].said ? -1 : 0);
        if (cases[i].said) {
            assert_int_equal(t.err.code, ERR_GUEST);
            assert_non_null(strstr(t.err.message, "not who it is to be"));
            assert_non_null(strstr(t.err.message, cases[i].said));
        }
    }
    assert_link_up(f);
}

#define BOOT_ID "c0ffee00-0123-4567-89ab-cdef01234567"

static int do_configure_fork(struct task *t)
{
    return guest_link_configure(t->f->link,
                                &(struct guest_configure){.hostname = "vm",
                                                          .boot_id = BOOT_ID,
                                                          .time_ns = 0x0102030405060708},
                                t->cancel, t->deadline_ms, &t->err);
}

static int do_configure_init(struct task *t)
{
    return guest_link_configure(t->f->link,
                                &(struct guest_configure){.hostname = "vm",
                                                          .begin_init = true,
                                                          .time_ns = 0x0102030405060708},
                                t->cancel, t->deadline_ms, &t->err);
}

/* Whether a CONFIGURE has this, and once. */
static bool has_tlv(const struct frame *req, enum frame_tag wanted, const char *text)
{
    struct frame_reader r = frame_reader(req);
    const uint8_t *value;
    bool has = false;
    uint32_t len;
    uint8_t tag;
    int n;

    while ((n = frame_take_tlv(&r, &tag, &value, &len)) > 0) {
        if (tag == wanted) {
            assert_false(has);
            assert_int_equal(len, strlen(text));
            assert_memory_equal(value, text, len);
            has = true;
        }
    }
    assert_int_equal(n, 0);
    return has;
}

static bool has_boot_id(const struct frame *req)
{
    return has_tlv(req, FRAME_TAG_BOOT_ID, BOOT_ID);
}

static void an_init_has_begun_when_the_guest_says_so(void **state)
{
    struct fixture *f = *state;

    for (int says = 0; says < 2; says++) {
        struct task t = {0};
        struct frame req;

        task_begin(&t, f, do_configure_init);
        req = peer_expect(&f->agent, FRAME_CONFIGURE);
        assert_true(has_tlv(&req, FRAME_TAG_INIT, ""));
        agent_send_all(f, req.stream, "vm", NULL, 0x0102030405060708, NULL, says);
        assert_int_equal(task_end(&t), says ? 0 : -1);
        if (!says) {
            assert_int_equal(t.err.code, ERR_GUEST);
            assert_string_equal(t.err.message,
                                "configure: the guest is not who it is to be: its init");
        }
    }
    assert_link_up(f);
}

static void a_guest_has_the_boot_id_that_it_is_given_or_does_not_come_up(void **state)
{
    static const struct {
        int (*fn)(struct task *t);
        const char *boot_id;
        bool good;
    } cases[] = {
        {do_configure_fork, BOOT_ID, true},
        {do_configure_fork, NULL, false},
        {do_configure_fork, "", false},
        {do_configure_fork, "c0ffee00-0123-4567-89ab-cdef01234568", false},
        {do_configure_fork, BOOT_ID "\n", false},
        {do_configure, NULL, true},
        {do_configure, BOOT_ID, false}, /* nobody asked for it */
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct task t = {0};
        struct frame req;

        task_begin(&t, f, cases[i].fn);
        req = peer_expect(&f->agent, FRAME_CONFIGURE);
        assert_int_equal(has_boot_id(&req), cases[i].fn == do_configure_fork);
        agent_send_identity(f, req.stream, "vm", NULL, 0x0102030405060708, cases[i].boot_id);
        assert_int_equal(task_end(&t), cases[i].good ? 0 : -1);
        if (!cases[i].good) {
            assert_int_equal(t.err.code, ERR_GUEST);
            assert_string_equal(t.err.message,
                                "configure: the guest is not who it is to be: its boot_id");
        }
    }
    assert_link_up(f);
}

static const struct guest_network network = {
    .ipv4 = 0x0AC90107,
    .gateway4 = 0x0AC90001,
    .ipv6 = {0xfd, 0, 2, 1, [14] = 1, 7},
    .mac = {2, 0xba, 0x17, 0, 0, 2},
    .gateway_mac = {2, 0xba, 0x17, 0, 0, 1},
    .mtu = 1500,
    .resolvers = {"10.201.0.1", "fd00:201::1"},
};
static const struct frame_network network_on_wire = {
    .ipv4 = {10, 201, 1, 7},
    .gateway4 = {10, 201, 0, 1},
    .ipv6 = {0xfd, 0, 2, 1, [14] = 1, 7},
    .mac = {2, 0xba, 0x17, 0, 0, 2},
    .gateway_mac = {2, 0xba, 0x17, 0, 0, 1},
    .mtu = 1500,
};

static int do_configure_network(struct task *t)
{
    return guest_link_configure(t->f->link,
                                &(struct guest_configure){.hostname = "vm",
                                                          .network = &network,
                                                          .time_ns = 0x0102030405060708},
                                t->cancel, t->deadline_ms, &t->err);
}

/* What a CONFIGURE says of the network, or false. */
static bool take_network(const struct frame *req, struct frame_network *ret,
                         const char *const resolvers[])
{
    struct frame_reader r = frame_reader(req);
    const uint8_t *value;
    bool has = false;
    uint32_t len;
    uint8_t tag;

    while (frame_take_tlv(&r, &tag, &value, &len) > 0) {
        if (tag == FRAME_TAG_NETWORK) {
            assert_int_equal(frame_take_network(value, len, ret), 0);
            has = true;
        } else if (tag == FRAME_TAG_RESOLVER) {
            assert_non_null(*resolvers);
            assert_int_equal(len, strlen(*resolvers));
            assert_memory_equal(value, *resolvers, len);
            resolvers++;
        }
    }
    assert_true(!has || *resolvers == NULL);
    return has;
}

/* NULL: not told; resolvers end with NULL. */
static void agent_send_network(struct fixture *f, uint32_t stream, const struct frame_network *n,
                               const char *const resolvers[])
{
    static const uint8_t time[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    _cleanup_buf_ struct buf b;

    buf_init(&b, 512);
    assert_int_equal(buf_append_le32(&b, 0), 0);
    assert_int_equal(frame_put_tlv(&b, FRAME_TAG_TIME, time, sizeof(time)), 0);
    assert_int_equal(frame_put_tlv(&b, FRAME_TAG_HOSTNAME, "vm", 2), 0);
    if (n) {
        assert_int_equal(frame_put_network(&b, n), 0);
    }
    for (; *resolvers; resolvers++) {
        assert_int_equal(frame_put_tlv(&b, FRAME_TAG_RESOLVER, *resolvers, strlen(*resolvers)), 0);
    }
    peer_send(&f->agent, &(struct frame){.type = FRAME_REPLY,
                                         .stream = stream,
                                         .payload = buf_head(&b),
                                         .length = (uint32_t)b.len});
}

static void a_guest_has_the_network_that_it_is_given_or_does_not_come_up(void **state)
{
    static const struct {
        size_t offset;
        uint8_t byte;
        bool good;
    } cases[] = {
#define AT(member, i) offsetof(struct frame_network, member) + (i)
        {AT(ipv4, 0), 10, true},       {AT(ipv4, 3), 8, false}, {AT(ipv6, 15), 8, false},
        {AT(ipv6, 0), 0, false},       {AT(mac, 5), 1, false},  {AT(mtu, 0), 0, false},
        {AT(gateway4, 3), 9, true}, /* what is said of the other end is not read back */
        {AT(gateway_mac, 5), 9, true},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct frame_network told = network_on_wire, asked = {0};
        struct task t = {0};
        struct frame req;

        ((uint8_t *)&told)[cases[i].offset] = cases[i].byte;
        task_begin(&t, f, do_configure_network);
        req = peer_expect(&f->agent, FRAME_CONFIGURE);
        assert_true(
            take_network(&req, &asked, (const char *const[]){"10.201.0.1", "fd00:201::1", NULL}));
        assert_memory_equal(&asked, &network_on_wire, sizeof(asked));
        agent_send_network(f, req.stream, &told, network.resolvers);
        assert_int_equal(task_end(&t), cases[i].good ? 0 : -1);
        if (!cases[i].good) {
            assert_int_equal(t.err.code, ERR_GUEST);
            assert_string_equal(t.err.message,
                                "configure: the guest is not who it is to be: its network");
        }
    }
    assert_link_up(f);
}

/* Resolvers, and IPv6, are things that a guest may keep to itself. */
static void a_guest_may_lack_ipv6_and_resolvers_but_not_have_others(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const one[] = {"10.201.0.1", NULL};
    static const char *const swapped[] = {"fd00:201::1", "10.201.0.1", NULL};
    static const char *const three[] = {"10.201.0.1", "fd00:201::1", "::1", NULL};
    static const struct {
        const char *const *resolvers;
        bool has_network, has_ipv6;
        const char *said; /* NULL: that will do */
    } cases[] = {
        {network.resolvers, true, true, NULL},
        {network.resolvers, true, false, NULL},
        {none, true, true, NULL},
        {none, true, false, NULL},
        {one, true, true, "its resolvers"},
        {swapped, true, true, "its resolvers"},
        {three, true, true, "its resolvers"},
        {network.resolvers, false, false, "its network"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct frame_network told = network_on_wire;
        struct task t = {0};

        if (!cases[i].has_ipv6) {
            memset(told.ipv6, 0, sizeof(told.ipv6));
        }
        task_begin(&t, f, do_configure_network);
        agent_send_network(f, peer_expect(&f->agent, FRAME_CONFIGURE).stream,
                           cases[i].has_network ? &told : NULL, cases[i].resolvers);
        assert_int_equal(task_end(&t), cases[i].said ? -1 : 0);
        if (cases[i].said) {
            assert_int_equal(t.err.code, ERR_GUEST);
            assert_non_null(strstr(t.err.message, cases[i].said));
        }
    }
    assert_link_up(f);
}

static void a_guest_that_was_given_no_network_has_none(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const one[] = {"10.201.0.1", NULL};
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        struct frame_network asked;
        struct task t = {0};
        struct frame req;

        task_begin(&t, f, do_configure);
        req = peer_expect(&f->agent, FRAME_CONFIGURE);
        assert_false(take_network(&req, &asked, none));
        agent_send_network(f, req.stream, i ? NULL : &network_on_wire, i ? one : none);
        assert_int_equal(task_end(&t), -1);
        assert_non_null(strstr(t.err.message, i ? "its resolvers" : "its network"));
    }
    assert_link_up(f);
}

static int do_grow(struct task *t)
{
    return guest_link_grow_disk(t->f->link, 3ULL << 40, t->cancel, t->deadline_ms, &t->err);
}

static void a_disk_grows_where_the_agent_knows_how(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};
    struct frame_reader r;
    struct frame req;
    uint64_t bytes;

    assert_true(guest_link_can_grow_disk(f->link));
    task_begin(&t, f, do_grow);
    req = peer_expect(&f->agent, FRAME_GROW);
    r = frame_reader(&req);
    assert_int_equal(frame_take_u64(&r, &bytes), 0);
    assert_true(bytes == 3ULL << 40 && r.left == 0);
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    assert_int_equal(task_end(&t), 0);
}

static void agent_hello_of_version(struct fixture *f, uint8_t version)
{
    uint8_t payload[FRAME_NONCE_SIZE + 6] = {[FRAME_NONCE_SIZE] = version};
    struct err err;

    memcpy(payload, f->nonce, FRAME_NONCE_SIZE);
    peer_send(
        &f->agent,
        &(struct frame){.type = FRAME_HELLO_OK, .payload = payload, .length = sizeof(payload)});
    assert_int_equal(guest_link_wait_hello(f->link, NULL, test_deadline(), &err), 0);
    assert_link_up(f);
}

static void an_agent_of_the_first_version_is_not_asked_for_more(void **state)
{
    struct fixture *f = *state;

    assert_false(guest_link_can_grow_disk(f->link));
    agent_hello_of_version(f, 1);
    assert_false(guest_link_can_grow_disk(f->link));
}

static void an_agent_that_knows_no_boot_id_is_given_none(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};
    struct frame req;

    agent_hello_of_version(f, FRAME_PROTO_BOOT_ID - 1);
    task_begin(&t, f, do_configure_fork);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_UNSUPPORTED);
    assert_string_equal(t.err.message,
                        "configure: the guest's agent is too old to be given a boot_id");
    /* It was not even asked, and can be told who it is without one. */
    task_begin(&t, f, do_configure);
    req = peer_expect(&f->agent, FRAME_CONFIGURE);
    assert_false(has_boot_id(&req));
    agent_send_identity(f, req.stream, "vm", CONFIGURED_ID, 0x0102030405060708, NULL);
    assert_int_equal(task_end(&t), 0);
}

static void an_agent_that_does_not_wait_with_init_is_not_asked_to_begin_it(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};

    agent_hello_of_version(f, FRAME_PROTO_INIT - 1);
    task_begin(&t, f, do_configure_init);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_UNSUPPORTED);
    assert_string_equal(t.err.message, "configure: the guest's agent is too old to begin an init");
}

static void an_agent_that_knows_no_network_is_given_none(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};

    agent_hello_of_version(f, FRAME_PROTO_NETWORK - 1);
    task_begin(&t, f, do_configure_network);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_UNSUPPORTED);
    assert_string_equal(t.err.message, "configure: the guest's agent is too old to have a network");
}

static void a_request_ends_at_deadline_or_cancel_and_its_late_answer_is_dropped(void **state)
{
    struct fixture *f = *state;
    _cleanup_cancel_ struct cancel *cancel = cancel_new();
    struct task t = {.deadline_ms = clock_mono_ms()};
    struct frame req;

    task_begin(&t, f, do_sync);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_TIMEOUT);
    assert_string_equal(t.err.message, "the guest did not answer in time: sync");
    req = peer_expect(&f->agent, FRAME_SYNC);
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    t = (struct task){.cancel = cancel};
    task_begin(&t, f, do_sync);
    req = peer_expect(&f->agent, FRAME_SYNC);
    cancel_trigger(cancel);
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_CANCELLED);
    agent_send_u32(f, FRAME_REPLY, req.stream, 0);
    assert_link_up(f);
}

static void the_end_of_the_stream_breaks_the_link(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};

    task_begin(&t, f, do_sync);
    (void)peer_expect(&f->agent, FRAME_SYNC);
    close_p(&f->agent.fd);
    assert_broken(f, "the VM went down");
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    assert_string_equal(t.err.message, "sync: the VM went down");
    t = (struct task){0};
    task_begin(&t, f, do_sync); /* and later ones */
    assert_int_equal(task_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    ping_begin(&t, f);
    assert_int_equal(ping_end(&t), -1);
    assert_string_equal(t.err.message, "ping: the VM went down");
}

static void a_ping_is_forgotten_once_or_answered_once(void **state)
{
    struct fixture *f = *state;
    struct task t = {0};
    struct frame ping;

    ping_begin(&t, f);
    ping = peer_expect(&f->agent, FRAME_PING);
    assert_true(guest_link_forget_ping(f->link, t.ping));
    assert_false(guest_link_forget_ping(f->link, t.ping));
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ping.stream});
    assert_link_up(f); /* which came behind the late answer */
    assert_false(latch_is_set(&t.pinged));
    latch_done(&t.pinged);
    ping_begin(&t, f);
    ping = peer_expect(&f->agent, FRAME_PING);
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ping.stream});
    assert_int_equal(ping_end(&t), 0);
    assert_false(guest_link_forget_ping(f->link, t.ping));
}

static void count_ping(void *arg, int64_t us, const struct err *err)
{
    (void)us;
    atomic_fetch_add((atomic_uint *)arg, err ? 0 : 1);
}

static void a_guest_that_answers_none_is_asked_no_more(void **state)
{
    struct fixture *f = *state;
    static uint32_t ids[LINK_REQUESTS_MAX];
    atomic_uint answered = 0;
    uint32_t id = 0;
    struct err err;

    for (unsigned i = 0; i < LINK_REQUESTS_MAX; i++) {
        assert_int_equal(guest_link_ping(f->link, count_ping, &answered, &ids[i], &err), 0);
        assert_int_equal(peer_expect(&f->agent, FRAME_PING).stream, ids[i]);
    }
    assert_int_equal(guest_link_ping(f->link, count_ping, &answered, &id, &err), -1);
    assert_string_equal(err.message, "ping: the guest takes no more requests");
    for (unsigned i = 0; i < LINK_REQUESTS_MAX; i++) {
        peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = ids[i]});
        /* The first answer makes room for one more. */
        while (i == 0 && guest_link_ping(f->link, count_ping, &answered, &id, &err) < 0) {
            settle(f);
        }
    }
    assert_int_equal(peer_expect(&f->agent, FRAME_PING).stream, id);
    peer_send(&f->agent, &(struct frame){.type = FRAME_PONG, .stream = id});
    assert_link_up(f);
    assert_int_equal(atomic_load(&answered), LINK_REQUESTS_MAX + 1);
}

static void a_ping_is_lost_with_the_link(void **state)
{
    struct fixture *f = *state;
    struct task t;

    ping_begin(&t, f);
    (void)peer_expect(&f->agent, FRAME_PING);
    guest_link_end(f->link, "the VM has stopped");
    assert_int_equal(ping_end(&t), -1);
    assert_int_equal(t.err.code, ERR_GUEST);
    assert_string_equal(t.err.message, "ping: the VM has stopped");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FRESH(hello_is_found_behind_garbage),
        TEST_BARE(an_adopted_port_is_resynchronised_first),
        TEST_FRESH(listed_sessions_take_their_numbers),
        TEST_FRESH(waiting_for_hello_ends_at_deadline_or_cancel),
        TEST_FRESH(the_agents_last_words_before_hello_are_told),
        TEST(the_agents_last_words_later_are_told),
        TEST(requests_are_answered),
        TEST(a_guest_is_who_it_is_told_to_be_or_does_not_come_up),
        TEST(a_guest_has_the_boot_id_that_it_is_given_or_does_not_come_up),
        TEST(an_init_has_begun_when_the_guest_says_so),
        TEST(a_guest_has_the_network_that_it_is_given_or_does_not_come_up),
        TEST(a_guest_may_lack_ipv6_and_resolvers_but_not_have_others),
        TEST(a_guest_that_was_given_no_network_has_none),
        TEST(a_disk_grows_where_the_agent_knows_how),
        TEST_FRESH(an_agent_of_the_first_version_is_not_asked_for_more),
        TEST_FRESH(an_agent_that_knows_no_boot_id_is_given_none),
        TEST_FRESH(an_agent_that_knows_no_network_is_given_none),
        TEST_FRESH(an_agent_that_does_not_wait_with_init_is_not_asked_to_begin_it),
        TEST(a_request_ends_at_deadline_or_cancel_and_its_late_answer_is_dropped),
        TEST(a_ping_is_forgotten_once_or_answered_once),
        TEST(a_guest_that_answers_none_is_asked_no_more),
        TEST(a_ping_is_lost_with_the_link),
        TEST(the_end_of_the_stream_breaks_the_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
