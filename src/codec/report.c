#include "codec/report.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define NUMBER_MAX 9007199254740991ULL /* what any JSON reader holds */
#define WORD_MAX 64
#define FIELDS_MAX 8

struct line {
    char words[FIELDS_MAX][WORD_MAX + 1];
    char rest[REPORT_TEXT_MAX + 1];
};

/* Takes `count` words, and with `rest` what follows them. */
static bool take_words(const char *at, const char *end, size_t count, bool rest, struct line *ret)
{
    for (size_t i = 0; i < count; i++) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        bool last = i + 1 == count && !rest;
        size_t len = (size_t)((space && !last ? space : end) - at);

        if (len == 0 || len > WORD_MAX || (!space && !last)) {
            return false;
        }
        memcpy(ret->words[i], at, len);
        ret->words[i][len] = 0;
        at += len + !last;
    }
    if (rest) {
        size_t len = (size_t)(end - at);

        len = len < REPORT_TEXT_MAX ? len : REPORT_TEXT_MAX;
        for (size_t i = 0; i < len; i++) {
            unsigned char c = (unsigned char)at[i];

            ret->rest[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
        }
        ret->rest[len] = 0;
    }
    return true;
}

/* Sets members to the words, which must be numbers. */
static bool put_numbers(json_t *object, const struct line *l, const char *const *names,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value;

        if (str_to_u64(l->words[i], NUMBER_MAX, &value) < 0) {
            return false;
        }
        json_put_int(object, names[i], (long long)value);
    }
    return true;
}

static bool on_load(json_t *o, const char *at, const char *end)
{
    static const char *const names[] = {"load1_permille", "load5_permille", "load15_permille"};
    struct line l;

    return take_words(at, end, 3, false, &l) && put_numbers(o, &l, names, 3);
}

static bool on_memory(json_t *o, const char *at, const char *end)
{
    static const char *const names[] = {"memory_total_bytes", "memory_available_bytes"};
    struct line l;

    return take_words(at, end, 2, false, &l) && put_numbers(o, &l, names, 2);
}

static bool on_disk(json_t *o, const char *at, const char *end)
{
    static const char *const names[] = {"size_bytes", "used_bytes", "available_bytes"};
    json_t *disks = json_object_get(o, "disks"), *disk = json_object();
    struct line l;

    json_array_append_new(disks, disk);
    if (json_array_size(disks) > REPORT_DISKS_MAX || !take_words(at, end, 3, true, &l) ||
        !put_numbers(disk, &l, names, 3)) {
        return false;
    }
    json_put(disk, "mount", json_bytes_new(l.rest, strlen(l.rest)));
    return true;
}

static bool on_process(json_t *o, const char *at, const char *end)
{
    static const char *const names[] = {"pid", "ppid", "cpu_ms", "age_ms", "rss_bytes"};
    json_t *processes = json_object_get(o, "processes"), *process = json_object();
    long long age, cpu;
    struct line l;

    json_array_append_new(processes, process);
    if (json_array_size(processes) > REPORT_PROCESSES_MAX || !take_words(at, end, 7, true, &l) ||
        !put_numbers(process, &l, names, 5) || strlen(l.words[5]) != 1 ||
        !str_is_utf8(l.words[5], 1)) {
        return false;
    }
    age = json_int(process, "age_ms", 0);
    cpu = json_int(process, "cpu_ms", 0);
    json_put_int(process, "cpu_permille",
                 age > 0 ? (long long)((double)cpu * 1000 / (double)age) : 0);
    json_put_str(process, "state", l.words[5]);
    json_put(process, "user", json_bytes_new(l.words[6], strlen(l.words[6])));
    json_put(process, "command", json_bytes_new(l.rest, strlen(l.rest)));
    return true;
}

static bool is_address(const char *text)
{
    struct in6_addr unused;

    return inet_pton(AF_INET, text, &unused) == 1 || inet_pton(AF_INET6, text, &unused) == 1;
}

static bool on_listener(json_t *o, const char *at, const char *end)
{
    json_t *listeners = json_object_get(o, "listeners"), *listener = json_object();
    uint64_t port, pid;
    struct line l;

    json_array_append_new(listeners, listener);
    if (json_array_size(listeners) > REPORT_LISTENERS_MAX || !take_words(at, end, 5, true, &l) ||
        !(str_eq(l.words[0], "tcp") || str_eq(l.words[0], "udp")) ||
        str_to_u64(l.words[1], UINT16_MAX, &port) < 0 ||
        str_to_u64(l.words[2], NUMBER_MAX, &pid) < 0 || !is_address(l.words[4])) {
        return false;
    }
    json_put_str(listener, "protocol", l.words[0]);
    json_put_str(listener, "address", l.words[4]);
    json_put_int(listener, "port", (long long)port);
    json_put(listener, "pid", pid > 0 ? json_integer((json_int_t)pid) : json_null());
    json_put(listener, "user", json_bytes_new(l.words[3], strlen(l.words[3])));
    json_put(listener, "command", pid > 0 ? json_bytes_new(l.rest, strlen(l.rest)) : json_null());
    return true;
}

static bool on_more(json_t *o, const char *at, const char *end)
{
    static const char *const names[] = {"more"};
    struct line l;

    return take_words(at, end, 1, false, &l) && put_numbers(o, &l, names, 1);
}

struct kind {
    const char *word; /* and a space */
    bool (*take)(json_t *o, const char *at, const char *end);
};

/* Takes o, and gives it back if all lines of these kinds are right. */
static json_t *parse(json_t *o, const char *text, size_t len, const struct kind *kinds)
{
    _cleanup_json_ json_t *owned = o;
    const char *end = text + len;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));

        if (!newline) {
            return NULL;
        }
        for (const struct kind *k = kinds; k->word; k++) {
            size_t n = strlen(k->word);

            if ((size_t)(newline - text) >= n && memcmp(text, k->word, n) == 0) {
                if (!k->take(o, text + n, newline)) {
                    return NULL;
                }
                break;
            }
        }
        text = newline + 1;
    }
    return STEAL_PTR(owned);
}

json_t *report_parse_stats(const char *text, size_t len)
{
    static const struct kind kinds[] = {
        {"load ", on_load}, {"memory ", on_memory}, {"disk ", on_disk}, {NULL, NULL}};
    _cleanup_json_ json_t *o = json_object();

    json_put(o, "disks", json_array());
    o = parse(STEAL_PTR(o), text, len, kinds);
    return o && json_object_get(o, "load1_permille") && json_object_get(o, "memory_total_bytes")
               ? STEAL_PTR(o)
               : NULL;
}

json_t *report_parse_processes(const char *text, size_t len)
{
    static const struct kind kinds[] = {{"process ", on_process}, {"more ", on_more}, {NULL, NULL}};
    _cleanup_json_ json_t *o = json_object();

    json_put(o, "processes", json_array());
    o = parse(STEAL_PTR(o), text, len, kinds);
    return o && json_object_get(o, "more") ? STEAL_PTR(o) : NULL;
}

json_t *report_parse_listeners(const char *text, size_t len)
{
    static const struct kind kinds[] = {
        {"listener ", on_listener}, {"more ", on_more}, {NULL, NULL}};
    _cleanup_json_ json_t *o = json_object();

    json_put(o, "listeners", json_array());
    o = parse(STEAL_PTR(o), text, len, kinds);
    return o && json_object_get(o, "more") ? STEAL_PTR(o) : NULL;
}
