/* What a client wants to run, as the TLVs of an EXEC frame. */
#include "base/str.h"
#include "codec/api.h"
#include "guest/guest_priv.h"

#include <errno.h>
#include <string.h>

static int put_bytes_tlv(struct buf *body, uint8_t tag, const json_t *value)
{
    _cleanup_free_ char *bytes = NULL;
    size_t len;

    if (!value) {
        return 0;
    }
    if (json_bytes_get(value, &bytes, &len) < 0) {
        return -EINVAL;
    }
    return frame_put_tlv(body, tag, bytes, len);
}

static int put_list_tlv(struct buf *body, uint8_t tag, const json_t *list)
{
    const json_t *value;
    size_t i;
    int r = 0;

    json_array_foreach (list, i, value) {
        r = put_bytes_tlv(body, tag, value);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int put_tty_tlv(struct buf *body, const json_t *tty)
{
    long long rows, columns;
    uint8_t p[4];

    if (!tty) {
        return 0;
    }
    rows = api_int(tty, "rows");
    columns = api_int(tty, "columns");
    p[0] = (uint8_t)rows;
    p[1] = (uint8_t)(rows >> 8);
    p[2] = (uint8_t)columns;
    p[3] = (uint8_t)(columns >> 8);
    return frame_put_tlv(body, FRAME_TAG_TTY, p, sizeof(p));
}

int exec_spec_too_large(const json_t *spec, struct err *err)
{
    bool files = json_object_get(spec, "files") != NULL;

    err_set(err, ERR_LIMIT, "%s are larger than %d KiB together",
            files ? "the paths" : "command and environment", FRAME_SPEC_MAX / 1024);
    return err_hint(err, files ? "copy a directory instead" : "pass large data through stdin");
}

/* A file transfer instead of a command. */
static int put_files_tlv(struct buf *body, const json_t *files)
{
    uint8_t p[2] = {(uint8_t)json_int(files, "direction", 0), (uint8_t)json_int(files, "flags", 0)};
    int r = frame_put_tlv(body, FRAME_TAG_FILES, p, sizeof(p));

    return r < 0 ? r : put_list_tlv(body, FRAME_TAG_PATH, json_object_get(files, "paths"));
}

int exec_spec_encode(const json_t *spec, struct buf *body, struct err *err)
{
    const json_t *files = json_object_get(spec, "files");
    uint8_t mode = str_eq(api_str(spec, "stdin"), "pipe") ? FRAME_STDIN_PIPE : FRAME_STDIN_CLOSED;
    const char *user = api_str(spec, "user");

    if (json_array_size(json_object_get(spec, "command")) == 0 && !json_object_get(spec, "tty")) {
        err_set(err, ERR_INVALID, "no command given");
        return err_hint(err, "put the command after --, for example: banger run -- uname -a");
    }
    if ((files ? put_files_tlv(body, files)
               : put_list_tlv(body, FRAME_TAG_ARG, json_object_get(spec, "command"))) < 0 ||
        put_list_tlv(body, FRAME_TAG_ENV, json_object_get(spec, "env")) < 0 ||
        put_bytes_tlv(body, FRAME_TAG_CWD, json_object_get(spec, "cwd")) < 0 ||
        (user && frame_put_tlv(body, FRAME_TAG_USER, user, strlen(user)) < 0) ||
        frame_put_tlv(body, FRAME_TAG_STDIN, &mode, 1) < 0 ||
        put_tty_tlv(body, json_object_get(spec, "tty")) < 0) {
        return exec_spec_too_large(spec, err);
    }
    return 0;
}
