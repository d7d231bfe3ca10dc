/* Secrets in texts and JSON: what goes, and what stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/str.h"
#include "cli/redact.h"

#include <string.h>

/* Wherever this is, it is secret. */
#define S "hunter2Xyz"

static const char *const environment[] = {"PATH=/usr/bin", "DEPLOY_TOKEN=from-the-environment",
                                          "API_KEY=from-the", "SHORT_TOKEN=abc", NULL};

static char *cleaned(const char *text)
{
    _cleanup_(redact_free_p) struct redact *r = redact_new(environment);

    return redact_text(r, text, strlen(text));
}

static void secrets_are_taken_out(void **state)
{
    static const struct {
        const char *text, *left;
    } cases[] = {
        {"get https://joe:" S "@host/x now", "get https://[redacted]@host/x now"},
        {"https://" S "@host", "https://[redacted]@host"},
        {"http://joe:" S "/a@host/b", "http://[redacted]@host/b"},
        {"http://joe:a@" S "@host/", "http://[redacted]@host/"},
        {"Authorization: Bearer " S, "Authorization: [redacted]"},
        {"proxy-authorization: Basic a" S "=", "proxy-authorization: [redacted]"},
        {"curl -H 'Authorization: token " S "' http://h",
         "curl -H 'Authorization: [redacted]' http://h"},
        {"Cookie: a=" S "; b=" S, "Cookie: [redacted]"},
        {"sent Bearer " S " to it", "sent Bearer [redacted] to it"},
        {"PASSWORD=" S " make", "PASSWORD=[redacted] make"},
        {"DB_PASSWORD='" S " b' make", "DB_PASSWORD='[redacted]' make"},
        {"x.token = " S, "x.token = [redacted]"},
        {"?token=" S "&a=" S, "?token=[redacted]"},
        {"password: a " S, "password: [redacted]"},
        {"tool --password " S " run", "tool --password [redacted] run"},
        {"tool --api-key=" S " run", "tool --api-key=[redacted] run"},
        {"{\"secret\": \"a\\\"" S "\", \"n\": 1}", "{\"secret\": \"[redacted]\", \"n\": 1}"},
        {"log: \\\"client_secret\\\":\\\"" S "\\\",",
         "log: \\\"client_secret\\\":\\\"[redacted]\\\","},
        {"AWS_SECRET_ACCESS_KEY=" S, "AWS_SECRET_ACCESS_KEY=[redacted]"},
        {"SIGNING_KEY=" S, "SIGNING_KEY=[redacted]"},
        {"found ghp_0123456789" S "! there", "found [redacted]! there"},
        {"AKIA0123456789ABCDEF.", "[redacted]"},
        {"jwt eyJhbGciOi.eyJzdWIi." S, "jwt [redacted]"},
        {"a\n-----BEGIN RSA PRIVATE KEY-----\n" S "\n-----END RSA PRIVATE KEY-----\nb",
         "a\n[redacted]\nb"},
        {"-----BEGIN PRIVATE KEY-----\n" S, "[redacted]"},
        {S "\n-----END OPENSSH PRIVATE KEY-----\nb", "[redacted]\nb"},
        {"it said from-the-environment.", "it said [redacted]."},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_free_ char *left = cleaned(cases[i].text);

        if (strstr(left, S)) {
            fail_msg("a secret is left: %s", left);
        }
        assert_string_equal(left, cases[i].left);
    }
}

static void what_is_no_secret_stays(void **state)
{
    static const char *const texts[] = {
        "",
        "\n\n",
        "2026-11-28T18:34:49.648Z info process 4215 keeps root; this one is user 0",
        "VM 'quiet-fox' is stopped: start failed: 'qemu-system-x86_64' is not installed",
        "http://host:8080/a@b",
        "joe@host: no such host",
        "a token is needed",
        "tokens are counted: see the manual",
        "accel = \"tcg\"",
        "abc is short",
        "basic setup",
        "--verbose 12",
        "sk-short",
        "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        _cleanup_free_ char *left = cleaned(texts[i]);

        assert_string_equal(left, texts[i]);
    }
}

static void json_is_cleaned_by_names_and_by_content(void **state)
{
    static const char text[] =
        "{\"name\":\"a\",\"count\":3,\"api_token\":\"" S "\",\"none_token\":null,"
        "\"env\":[\"FOO=" S "\",\"BAR\"],\"command\":[\"x\",\"--password\",\"" S "\",\"TOKEN=" S
        "\"],"
        "\"labels\":{\"secret\":\"" S "\",\"url\":\"http://a:" S "@h\",\"x\":\"y\"},"
        "\"settings\":[{\"key\":\"registry_password\",\"value\":\"" S "\",\"default\":\"" S "\"},"
        "{\"key\":\"accel\",\"value\":\"tcg\"}],\"deep\":{\"env\":{\"FOO\":\"" S "\"}},"
        "\"token=" S "\":true}";
    _cleanup_(redact_free_p) struct redact *r = redact_new(environment);
    _cleanup_json_ json_t *value = NULL, *clean = NULL;
    _cleanup_free_ char *left = NULL;
    struct err err;

    (void)state;
    assert_int_equal(json_parse(text, strlen(text), &value, &err), 0);
    clean = redact_json(r, value);
    left = json_print(clean);
    assert_string_equal(
        left, "{\"name\":\"a\",\"count\":3,\"api_token\":\"[redacted]\",\"none_token\":null,"
              "\"env\":[\"FOO=[redacted]\",\"[redacted]\"],"
              "\"command\":[\"x\",\"--password\",\"[redacted]\",\"TOKEN=[redacted]\"],"
              "\"labels\":{\"secret\":\"[redacted]\",\"url\":\"http://[redacted]@h\",\"x\":\"y\"},"
              "\"settings\":[{\"key\":\"registry_password\",\"value\":\"[redacted]\","
              "\"default\":\"[redacted]\"},{\"key\":\"accel\",\"value\":\"tcg\"}],"
              "\"deep\":{\"env\":{\"FOO\":\"[redacted]\"}},\"token=[redacted]\":\"[redacted]\"}");
}

/* Each prefix and each suffix of a text with much in it: no byte beyond it is read (sanitizer). */
static void any_cut_is_handled(void **state)
{
    static const char text[] =
        "https://a:b@c \"token\\\": \\\"x\\\" Bearer A1 --password -----BEGIN "
        "PRIVATE KEY-----\n-----END PRIVATE KEY-----\neyJ.a AKIA";
    _cleanup_(redact_free_p) struct redact *r = redact_new(environment);
    size_t len = strlen(text);

    (void)state;
    for (size_t from = 0; from < len; from++) {
        for (size_t n = 0; n <= len - from; n++) {
            _cleanup_free_ char *exact = malloc(n + !n);
            _cleanup_free_ char *left = NULL;

            memcpy(exact, text + from, n);
            left = redact_text(r, exact, n);
            assert_non_null(left);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_are_taken_out),
        cmocka_unit_test(what_is_no_secret_stays),
        cmocka_unit_test(json_is_cleaned_by_names_and_by_content),
        cmocka_unit_test(any_cut_is_handled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
