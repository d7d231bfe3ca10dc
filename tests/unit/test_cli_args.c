/* The verb table, parsing, and flags as parameters. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "codec/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MAX_WORDS 32

struct parsed {
    struct cli cli;
    struct cli_args args;
    char *argv[MAX_WORDS];
    char *line;
    struct err err;
    int r;
};

/* Parses a line split at single spaces. */
static void parse(struct parsed *p, const char *line)
{
    size_t n = 0;
    char *next;

    *p = (struct parsed){.line = x_strdup(line)};
    next = p->line;
    while (next && n + 1 < MAX_WORDS) {
        p->argv[n++] = strsep(&next, " ");
    }
    p->r = cli_parse(&p->cli, *line ? p->argv : p->argv + n, &p->args, &p->err);
}

static void parsed_done(struct parsed *p)
{
    cli_args_done(&p->args);
    free(p->line);
}
#define _cleanup_parsed_ _cleanup_(parsed_done)

static void each_verb_is_found_by_its_names(void **state)
{
    (void)state;
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        _cleanup_free_ char *path = x_strdup(v->path);
        char *second = path;
        char *first = strsep(&second, " ");

        assert_ptr_equal(cli_verb_find(first, second), v);
        if (v->alias) {
            assert_ptr_equal(cli_verb_find(v->alias, NULL), v);
        }
        assert_true(v->run && v->operands);
    }
    assert_ptr_equal(cli_verb_find("vm", "ls"), cli_verb_find("vm", "list"));
    assert_ptr_equal(cli_verb_find("vm", "inspect"), cli_verb_find("vm", "show"));
    assert_ptr_equal(cli_verb_find("vm", "remove"), cli_verb_find("rm", NULL));
    assert_ptr_equal(cli_verb_find("image", "ls"), cli_verb_find("image", "list"));
    assert_null(cli_verb_find("vm", NULL));
    assert_null(cli_verb_find("v", "list"));
}

static void each_flag_stands_for_a_parameter_that_exists(void **state)
{
    (void)state;
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        for (const struct cli_flag *f = v->flags; f && f->name; f++) {
            const struct api_method *m = f->method ? api_method_find(f->method) : NULL;
            const struct api_param *p = m ? api_param_find(m, f->param) : NULL;

            assert_true(!f->method || p);
            assert_true(f->doc || (p && p->doc));
            assert_true(!p || (p->type == API_BOOL) == (!f->value || str_eq(f->value, "yes|no")));
            for (const struct cli_flag *g = v->flags; g < f; g++) {
                assert_string_not_equal(f->name, g->name);
                assert_true(!f->letter || f->letter != g->letter);
            }
            for (const struct cli_flag *g = cli_global_flags; g->name; g++) {
                assert_string_not_equal(f->name, g->name);
                assert_true(!f->letter || f->letter != g->letter);
            }
        }
    }
}

/* Completion and documents go by these words. */
static void each_operand_and_value_is_of_a_known_kind(void **state)
{
    (void)state;
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        _cleanup_free_ char *operands = x_strdup(v->operands);
        char *rest = operands, *word;

        while ((word = strsep(&rest, " [],"))) {
            if (*word && *word != '-' && cli_kind_of(word) == KIND_UNKNOWN) {
                fail_msg("%s: %s", v->path, word);
            }
        }
        for (const struct cli_flag *f = v->flags; f && f->name; f++) {
            if (f->value && !cli_flag_choices(f) && cli_kind_of(f->value) == KIND_UNKNOWN) {
                fail_msg("%s --%s: %s", v->path, f->name, f->value);
            }
        }
    }
    assert_int_equal(cli_kind_of("VM..."), KIND_VM);
    assert_int_equal(cli_kind_of("TEMPLATE..."), KIND_TEMPLATE);
    assert_int_equal(cli_kind_of("V"), KIND_UNKNOWN);
    assert_int_equal(cli_kind_of("bash|zsh|fish"), KIND_CHOICE);
}

static void what_was_meant_is_suggested(void **state)
{
    static const struct {
        const char *first, *second;
        const char *meant; /* or NULL */
    } cases[] = {
        {"rnu", NULL, "run"},      {"vm", "lsit", "vm list"},
        {"vm", "rme", "vm rm"},    {"vn", "list", "vm list"},
        {"vn", "lits", "vm list"}, {"vn", "xyzzy", "vm"},
        {"imgae", NULL, "image"},  {"create", "x", "vm create"},
        {"ls", NULL, "vm list"},   {"import", NULL, "kernel import"},
        {"xyzzy", NULL, NULL},     {"vm", "xyzzy", NULL},
        {"vm", NULL, NULL},        {"internal", "protocl", NULL},
        {"interna", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_free_ char *meant = cli_suggest(cases[i].first, cases[i].second);

        if (!str_eq(meant, cases[i].meant) && (meant || cases[i].meant)) {
            fail_msg("%s %s: %s", cases[i].first, cases[i].second, meant);
        }
    }
}

static void global_flags_are_taken_anywhere(void **state)
{
    static const char *const lines[] = {
        "--format json -q vm --debug list --socket /s",
        "vm list --format=json --quiet --debug --socket=/s",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        _cleanup_parsed_ struct parsed p;

        parse(&p, lines[i]);
        assert_int_equal(p.r, 0);
        assert_string_equal(p.args.verb->path, "vm list");
        assert_int_equal(p.cli.format, FORMAT_JSON);
        assert_true(p.cli.quiet && p.cli.debug);
        assert_string_equal(p.cli.socket, "/s");
    }
}

static void flags_after_the_dashes_are_the_commands(void **state)
{
    _cleanup_parsed_ struct parsed p;

    (void)state;
    parse(&p, "run --rm -d -e A=1 -eB=2 --name=x -- sh --rm -q -- z");
    assert_int_equal(p.r, 0);
    assert_int_equal(p.args.command_count, 5);
    assert_string_equal(p.args.command[1], "--rm");
    assert_false(p.cli.quiet);
    assert_string_equal(cli_arg(&p.args, "rm"), "");
    assert_string_equal(cli_arg(&p.args, "name"), "x");
    assert_null(cli_arg(&p.args, "image"));
    assert_string_equal(cli_arg(&p.args, "env"), "B=2");
}

static void exec_takes_a_command_with_and_without_dashes(void **state)
{
    static const struct {
        const char *line;
        const char *first;
        size_t count;
    } cases[] = {
        {"exec v ls -l", "ls", 2},    {"exec v -- ls -l", "ls", 2}, {"exec -i v ls", "ls", 1},
        {"exec v -i -- ls", "ls", 1}, {"exec v -i ls -i", "ls", 2}, {"exec v", NULL, 0},
        {"exec v ls -- x", "ls", 3},  {"exec v -- -l", "-l", 1},    {"exec v -", "-", 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_parsed_ struct parsed p;

        parse(&p, cases[i].line);
        assert_int_equal(p.r, 0);
        assert_int_equal(p.args.operand_count, 1);
        assert_string_equal(p.args.operands[0], "v");
        assert_int_equal(p.args.command_count, cases[i].count);
        if (cases[i].first) {
            assert_string_equal(p.args.command[0], cases[i].first);
        }
    }
}

static void letters_can_be_joined(void **state)
{
    _cleanup_parsed_ struct parsed p;

    (void)state;
    parse(&p, "run -diqeA=b -- x");
    assert_int_equal(p.r, 0);
    assert_true(cli_arg(&p.args, "detach") && cli_arg(&p.args, "interactive") && p.cli.quiet);
    assert_string_equal(cli_arg(&p.args, "env"), "A=b");
    parsed_done(&p);
    parse(&p, "run -dddddddddddddddddddddddddddddddddddddddddddddddddd");
    assert_int_equal(p.r, 0);
}

static void a_noun_alone_and_nothing_ask_for_help(void **state)
{
    static const char *const lines[] = {"", "vm", "-q", "--help", "vm --help"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        _cleanup_parsed_ struct parsed p;

        parse(&p, lines[i]);
        assert_int_equal(p.r, 0);
        assert_null(p.args.verb);
        assert_int_equal(p.args.help, strstr(lines[i], "help") != NULL);
    }
}

static void help_wins_over_missing_operands(void **state)
{
    _cleanup_parsed_ struct parsed p;

    (void)state;
    parse(&p, "vm stop -h");
    assert_int_equal(p.r, 0);
    assert_true(p.args.help);
}

static void numbers_have_units_and_limits(void **state)
{
    static const struct {
        const char *line;
        const char *param;
        long long value; /* -1: refused */
    } cases[] = {
        {"run --memory 512", "memory_mib", 512},
        {"run --memory 512M", "memory_mib", 512},
        {"run -m 2G", "memory_mib", 2048},
        {"run -m 2GiB", "memory_mib", 2048},
        {"run -m 63", "memory_mib", -1},
        {"run -m 1.5G", "memory_mib", -1},
        {"run -m 99999999999999999999", "memory_mib", -1},
        {"run -m 16777215T", "memory_mib", -1},
        {"run --disk 8G", "disk_bytes", 8LL << 30},
        {"run --disk 67108864", "disk_bytes", 67108864},
        {"run --disk 1K", "disk_bytes", -1},
        {"run --vcpus 4", "vcpus", 4},
        {"run --vcpus 4K", "vcpus", -1},
        {"run --vcpus -4", "vcpus", -1},
        {"run --vcpus 0", "vcpus", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_parsed_ struct parsed p;
        _cleanup_json_ json_t *params = json_object();

        parse(&p, cases[i].line);
        assert_int_equal(p.r, 0);
        p.r = cli_args_params(&p.args, "vm.create.begin", params, &p.err);
        if ((p.r == 0) != (cases[i].value >= 0)) {
            fail_msg("%s: %d", cases[i].line, p.r);
        }
        if (p.r == 0) {
            assert_int_equal(json_int(params, cases[i].param, -1), cases[i].value);
        }
    }
}

static void times_have_units(void **state)
{
    static const struct {
        const char *text;
        long long ms;
    } cases[] = {
        {"5", 5000},          {"90s", 90000}, {"500ms", 500},     {"2m", 120000},
        {"24h", 86400000},    {"25h", -1},    {"", -1},           {"s", -1},
        {"5x", -1},           {"-1", -1},     {"86400001ms", -1}, {"5 s", -1},
        {"99999999999h", -1}, {"0", 0},
    };
    struct cli_flag flag = {
        .name = "t", .unit = UNIT_MS, .method = "vm.stop", .param = "timeout_ms"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err;
        long long v = -1;

        assert_int_equal(cli_flag_number(&flag, cases[i].text, &v, &err), cases[i].ms < 0 ? -1 : 0);
        assert_int_equal(v, cases[i].ms);
    }
}

static void params_of_flags_pass_the_daemons_check(void **state)
{
    _cleanup_parsed_ struct parsed p;
    _cleanup_json_ json_t *params = json_object();
    json_t *main_session = json_object();

    (void)state;
    parse(&p,
          "run --rm --name n --vmm qemu --label a=1 --label a=2 -e X= -w /tmp -u 7:8 -- a \xff");
    assert_int_equal(p.r, 0);
    assert_int_equal(cli_args_params(&p.args, "vm.create.begin", params, &p.err), 0);
    assert_int_equal(cli_args_params(&p.args, "session.start", main_session, &p.err), 0);
    json_put(main_session, "command", cli_args_command(&p.args));
    json_put(params, "main", main_session);
    if (api_validate(api_method_find("vm.create.begin"), params, &p.err) < 0) {
        fail_msg("%s", p.err.message);
    }
    assert_string_equal(json_str(json_object_get(params, "labels"), "a", ""), "2");
    assert_string_equal(json_str(main_session, "cwd", ""), "/tmp");
    assert_null(json_object_get(params, "cwd"));
}

static void secrets_do_not_get_into_errors(void **state)
{
    _cleanup_parsed_ struct parsed p;
    _cleanup_json_ json_t *params = json_object();

    (void)state;
    parse(&p, "run --env hunter2 -- x");
    assert_int_equal(cli_args_params(&p.args, "session.start", params, &p.err), -1);
    assert_null(strstr(p.err.message, "hunter2"));
}

static void sizes_and_ages_are_for_people(void **state)
{
    static const struct {
        long long bytes;
        const char *text;
    } sizes[] = {{0, "0B"},           {1023, "1023B"},       {1024, "1K"},
                 {1536, "1.5K"},      {512LL << 20, "512M"}, {3LL << 29, "1.5G"},
                 {INT64_MAX, "8192P"}};
    static const struct {
        const char *then;
        const char *text;
    } ages[] = {{"2001-09-09T01:46:40.000Z", "now"},       {"2001-09-09T01:46:35.000Z", "5 s ago"},
                {"2001-09-09T01:44:35.000Z", "2 min ago"}, {"2001-09-08T22:46:40.000Z", "3 h ago"},
                {"2001-09-01T01:46:40.000Z", "8 d ago"},   {"2030-01-01T00:00:00.000Z", "now"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        _cleanup_free_ char *text = out_size(sizes[i].bytes);

        assert_string_equal(text, sizes[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(ages); i++) {
        _cleanup_free_ char *text = out_age(ages[i].then, 1000000000000);

        assert_string_equal(text, ages[i].text);
    }
    assert_null(out_age("yesterday", 0));
    assert_null(out_age(NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_verb_is_found_by_its_names),
        cmocka_unit_test(each_flag_stands_for_a_parameter_that_exists),
        cmocka_unit_test(each_operand_and_value_is_of_a_known_kind),
        cmocka_unit_test(what_was_meant_is_suggested),
        cmocka_unit_test(global_flags_are_taken_anywhere),
        cmocka_unit_test(flags_after_the_dashes_are_the_commands),
        cmocka_unit_test(exec_takes_a_command_with_and_without_dashes),
        cmocka_unit_test(letters_can_be_joined),
        cmocka_unit_test(a_noun_alone_and_nothing_ask_for_help),
        cmocka_unit_test(help_wins_over_missing_operands),
        cmocka_unit_test(numbers_have_units_and_limits),
        cmocka_unit_test(times_have_units),
        cmocka_unit_test(params_of_flags_pass_the_daemons_check),
        cmocka_unit_test(secrets_do_not_get_into_errors),
        cmocka_unit_test(sizes_and_ages_are_for_people),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
