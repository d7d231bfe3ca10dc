/* The tables of methods, objects, errors and frames as Markdown: docs/PROTOCOL.md. */
#include "base/str.h"
#include "codec/api.h"
#include "codec/doc.h"
#include "codec/frame.h"
#include "codec/rpc.h"

#include <stdlib.h>
#include <string.h>

#define DOC_MAX (1024 * 1024)

const char *api_type_name(enum api_type type)
{
    switch (type) {
    case API_STRING:
        return "string";
    case API_BYTES:
        return "bytes";
    case API_BOOL:
        return "boolean";
    case API_INT:
        return "integer";
    case API_BYTES_LIST:
        return "array of bytes";
    case API_LABELS:
        return "object of strings";
    case API_OBJECT:
    case API_ONE_OF:
        return "object";
    case API_CALL_ID:
        return "integer or string";
    case API_ID:
        return "id";
    case API_DIGEST:
        return "digest";
    case API_TIME:
        return "time";
    case API_STRINGS:
        return "array of string";
    case API_MEMBERS:
        return "array of member names";
    case API_COUNTS:
        return "object of integers";
    case API_LIST:
        return "array";
    case API_SCALAR:
        return "bytes, integer or boolean";
    }
    abort();
}

static const char intro[] =
    "# The protocol\n\n"
    "Printed by `banger internal protocol` from the tables in `src/codec/`; a test compares.\n\n"
    "The daemon listens on a Unix stream socket of mode 0600 and serves its owner and root. A\n"
    "message is one line of JSON-RPC 2.0, at most %d bytes, UTF-8. Params are by name; unknown\n"
    "ones are errors. There are no batches. Replies may come in any order; `id` is an integer or\n"
    "a string of at most %d bytes. A reply that would be longer than a line is the error `limit`. A\n"
    "connection that ends cancels its unanswered requests; VMs, sessions and\n"
    "operations go on, but for those begun with `hold`.\n\n"
    "*Bytes* are a string where they are UTF-8, else `{\"base64\": \"...\"}`; NUL is not "
    "allowed.\n\n";

/* One sentence a code; the compiler asks for it when a code is new. */
static const char *code_text(enum err_code code)
{
    switch (code) {
    case ERR_NONE:
    case ERR_CODE_COUNT:
        return NULL;
    case ERR_INVALID:
        return "The request is wrong; the message names the parameter.";
    case ERR_NOT_FOUND:
        return "What the request names does not exist.";
    case ERR_ALREADY_EXISTS:
        return "The name is taken.";
    case ERR_CONFLICT:
        return "In use, or not the incarnation that was meant.";
    case ERR_NOT_RUNNING:
        return "It works on running VMs only.";
    case ERR_BUSY:
        return "Somebody else works on it; the message says who.";
    case ERR_UNSUPPORTED:
        return "This VMM or this version cannot do it.";
    case ERR_LIMIT:
        return "More than a limit allows.";
    case ERR_TIMEOUT:
        return "It took too long.";
    case ERR_CANCELLED:
        return "Cancelled by a client.";
    case ERR_NO_SPACE:
        return "The host's disk is full.";
    case ERR_GUEST:
        return "The guest failed or broke the protocol.";
    case ERR_VMM:
        return "The VMM failed.";
    case ERR_REGISTRY:
        return "The image registry failed.";
    case ERR_AUTH:
        return "Credentials are missing or wrong.";
    case ERR_DENIED:
        return "Not allowed.";
    case ERR_IO:
        return "The host failed to read or write.";
    case ERR_INTERNAL:
        return "A bug in banger.";
    }
    return NULL;
}

/* Renderers make an anchor of a title by lowering its letters. */
static void put_object_link(struct buf *out, const struct api_object *o)
{
    _cleanup_free_ char *anchor = x_strdup(o->name);

    for (char *c = anchor; *c; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    PUT(out, "[%s](#%s)", o->name, anchor);
}

static const char objects_text[] =
    "## Objects\n\n"
    "Keys are there even when they are null, and there are no others. An id is 32 hexadecimal\n"
    "digits; a digest `sha256:` and 64 of them; a time RFC 3339 in UTC with milliseconds, such as\n"
    "`2026-11-23T16:02:03.004Z`; sizes are bytes unless the key says a unit.\n\n";

struct frame_doc {
    const char *name;
    const char *from; /* who sends it */
    const char *payload;
};

/* The compiler asks for a line when a type is new. */
static struct frame_doc frame_doc(enum frame_type type)
{
    switch (type) {
    case FRAME_HELLO:
        return (struct frame_doc){"HELLO", "host", "nonce[16], u16 lowest and u16 highest version"};
    case FRAME_HELLO_OK:
        return (struct frame_doc){"HELLO_OK", "agent",
                                  "nonce[16], u16 version, u32 sessions, the agent's version"};
    case FRAME_FATAL:
        return (struct frame_doc){"FATAL", "agent, daemon", "why it cannot go on, as text"};
    case FRAME_PING:
        return (struct frame_doc){"PING", "either", "any bytes, which PONG repeats"};
    case FRAME_PONG:
        return (struct frame_doc){"PONG", "either", "those of the PING"};
    case FRAME_CONFIGURE:
        return (struct frame_doc){
            "CONFIGURE", "host",
            "TLVs: host name, machine-id, boot_id (since version 3), time, entropy, init begins "
            "(since version 4)"};
    case FRAME_SYNC:
        return (struct frame_doc){"SYNC", "host", "empty"};
    case FRAME_GROW:
        return (struct frame_doc){"GROW", "host", "u64 bytes of the data disk (since version 2)"};
    case FRAME_POWEROFF:
        return (struct frame_doc){"POWEROFF", "host", "empty"};
    case FRAME_REPLY:
        return (struct frame_doc){"REPLY", "agent",
                                  "u32 errno (0 = done), text; or what CONFIGURE reads back"};
    case FRAME_GOING_DOWN:
        return (struct frame_doc){"GOING_DOWN", "agent", "empty"};
    case FRAME_EXEC:
        return (struct frame_doc){
            "EXEC", "host",
            "TLVs: arguments, environment, cwd, user, ..., and a record of the "
            "host's that SESSION repeats"};
    case FRAME_SIGNAL:
        return (struct frame_doc){"SIGNAL", "host, client",
                                  "u32 signal number, for the command's process group"};
    case FRAME_RESIZE:
        return (struct frame_doc){"RESIZE", "host, client", "u16 rows, u16 columns"};
    case FRAME_ATTACH:
        return (struct frame_doc){"ATTACH", "host", "empty"};
    case FRAME_RELEASE:
        return (struct frame_doc){"RELEASE", "host", "empty"};
    case FRAME_STARTED:
        return (struct frame_doc){"STARTED", "agent, daemon", "u32 pid in the guest"};
    case FRAME_FAILED:
        return (struct frame_doc){"FAILED", "agent, daemon",
                                  "not started: u32 exit status (125, 126, 127), u32 errno, text"};
    case FRAME_EXITED:
        return (struct frame_doc){"EXITED", "agent, daemon",
                                  "u8 0 = exited or 1 = killed, u32 status or signal"};
    case FRAME_SESSION:
        return (struct frame_doc){"SESSION", "agent",
                                  "u8 state, and as EXITED; after HELLO_OK also u64 offsets and "
                                  "the host's record"};
    case FRAME_DATA:
        return (struct frame_doc){"DATA", "either", "bytes of a channel; offset = of the first"};
    case FRAME_END:
        return (struct frame_doc){"END", "either", "empty; offset = length of the channel"};
    case FRAME_WINDOW:
        return (struct frame_doc){"WINDOW", "either", "u64 limit; offset = bytes held for good"};
    }
    return (struct frame_doc){0};
}

static const char frames_text[] =
    "## Frames\n\n"
    "After the reply to `session.attach` the connection carries frames in both directions. A\n"
    "frame is a header of %d bytes and at most %d bytes of payload, all little endian:\n\n"
    "| at | what |\n|---|---|\n"
    "| 0 | u8 magic, 0x%02X |\n"
    "| 1 | u8 type |\n"
    "| 2 | u8 channel: 0 stdin, 1 stdout (and a terminal's output), 2 stderr; else 0 |\n"
    "| 3 | u8 flags: 1 = more pieces of this body follow |\n"
    "| 4 | u32 stream: the session's number; always 0 towards a client |\n"
    "| 8 | u64 offset |\n"
    "| 16 | u32 payload length |\n\n"
    "Every channel counts its bytes from 0. DATA says the offset of its first byte, END the\n"
    "length of its channel. WINDOW says: I hold all bytes before `offset` for good, and you may\n"
    "send up to `limit`, which is at most %d bytes further. A sender begins with the limit 0 and\n"
    "never sends past it.\n\n"
    "A client that attaches sends a WINDOW for channels 1 and 2 to receive output, and more of\n"
    "them as it writes that out. The offset of the first says where it wants to begin; bytes that\n"
    "were acknowledged before are gone, and output then begins behind them. It may send stdin as\n"
    "far as the daemon's WINDOW for channel 0 allows, beginning at the offset of the first of\n"
    "them, and END; and SIGNAL and RESIZE at any time. The\n"
    "daemon sends DATA, then END of both output channels, then EXITED; or FAILED when the command\n"
    "could not be started, or FATAL when it cannot go on. A client that closes the connection only\n"
    "detaches, unless the session was begun with `hold` on a connection that ends as well.\n\n"
    "When the daemon ends, the connection ends without a FATAL. A client that goes on connects to\n"
    "the next daemon, calls `session.hold` if it held the session, attaches, and names the offsets\n"
    "up to which it has the output. It keeps what it sends to stdin until a WINDOW after the first\n"
    "has acknowledged it, and goes on where the first WINDOW on the new connection says.\n\n"
    "The same frames go between the daemon and the agent in the guest, where `stream` tells the\n"
    "sessions apart and the types without `client` or `daemon` below are used as well.\n\n"
    "| type | name | sent by | payload |\n|---|---|---|---|\n";

/* A type with the objects it consists of: "array of [Phase](#phase)", "string or null". */
static void put_type(struct buf *out, const struct api_param *p)
{
    if (p->type == API_ONE_OF) {
        for (const struct api_object *const *o = p->objects; *o; o++) {
            put_object_link(out, *o);
            PUT(out, "%s", o[1] ? " or " : "");
        }
    } else if (p->object) {
        PUT(out, "%s",
            p->type == API_LIST      ? "array of "
            : p->type == API_MEMBERS ? "array of member names of "
                                     : "");
        put_object_link(out, p->object);
    } else {
        PUT(out, "%s", api_type_name(p->type));
    }
    PUT(out, "%s", p->nullable ? " or null" : "");
}

static void put_limits(struct buf *out, const struct api_param *p)
{
    if (p->choices) {
        _cleanup_free_ char *choices = x_strdup(p->choices);

        for (char *c = choices; *c; c++) {
            *c = *c == '|' ? ',' : *c;
        }
        PUT(out, "one of %s", choices);
    } else if (p->type == API_INT) {
        if (p->max == INT64_MAX) {
            PUT(out, "from %lld", p->min);
        } else {
            PUT(out, "%lld to %lld", p->min, p->max);
        }
    } else if ((p->type == API_STRING || p->type == API_BYTES) && p->max > 0) {
        PUT(out, "%lld to %lld bytes", p->min, p->max);
    } else if (p->type == API_BYTES_LIST || p->type == API_LABELS) {
        PUT(out, "at most %lld", p->max);
    }
}

static void put_params(struct buf *out, const struct api_param *params)
{
    if (!params->name) {
        return;
    }
    PUT(out, "| param | type | limits | default | |\n|---|---|---|---|---|\n");
    for (const struct api_param *p = params; p->name; p++) {
        PUT(out, "| `%s`%s | ", p->name, p->required ? " (required)" : "");
        put_type(out, p);
        PUT(out, " | ");
        put_limits(out, p);
        PUT(out, " | %s | %s |\n", p->fallback ? p->fallback : "", p->doc);
    }
    PUT(out, "\n");
}

static void put_method(struct buf *out, const struct api_method *m)
{
    PUT(out, "### %s\n\n%s\n\n", m->name, m->doc);
    put_params(out, m->params);
    PUT(out, "Result: %s", m->result.list ? "array of " : "");
    put_object_link(out, m->result.object);
    PUT(out, "%s.%s%s\n\n", m->result.nullable ? " or null" : "",
        m->flags & API_NOTIFIES ? " Sends notifications before its reply." : "",
        m->flags & API_TAKES_OVER ? " After the reply the connection carries frames." : "");
}

static void put_object(struct buf *out, const struct api_object *o)
{
    PUT(out, "### %s\n\n%s\n\n", o->name, o->doc);
    if (!o->members || !o->members->name) {
        return;
    }
    PUT(out, "| key | type | limits | |\n|---|---|---|---|\n");
    for (const struct api_param *p = o->members; p->name; p++) {
        PUT(out, "| `%s`%s | ", p->name, p->required ? "" : " (optional)");
        put_type(out, p);
        PUT(out, " | ");
        put_limits(out, p);
        PUT(out, " | %s |\n", p->doc);
    }
    PUT(out, "\n");
}

static void put_notifications(struct buf *out)
{
    PUT(out, "## Notifications\n\n| name | sent by | params | |\n|---|---|---|---|\n");
    for (const struct api_notification *n = api_notifications; n->name; n++) {
        PUT(out, "| `%s` | `%s` | ", n->name, n->method);
        put_object_link(out, n->params);
        PUT(out, " | %s |\n", n->doc);
    }
    PUT(out, "\n");
}

char *api_markdown(void)
{
    struct buf out;

    buf_init(&out, DOC_MAX);
    PUT(&out, intro, RPC_LINE_MAX, RPC_ID_MAX);
    PUT(&out, "## Methods\n\n");
    for (const struct api_method *m = api_methods; m->name; m++) {
        put_method(&out, m);
    }
    put_notifications(&out);
    PUT(&out, "%s", objects_text);
    for (const struct api_object *const *o = api_objects; *o; o++) {
        put_object(&out, *o);
    }
    PUT(&out, "## Errors\n\nAn error is `{code, message, data: {code, hint, op, object}}`; "
              "`data.code` is the name.\n\n| name | code | |\n|---|---|---|\n");
    for (unsigned code = ERR_NONE + 1; code < ERR_CODE_COUNT; code++) {
        PUT(&out, "| `%s` | %d | %s |\n", err_code_name((enum err_code)code),
            err_code_number((enum err_code)code), code_text((enum err_code)code));
    }
    PUT(&out, "\n");
    PUT(&out, frames_text, FRAME_HEADER_SIZE, FRAME_PAYLOAD_MAX, FRAME_MAGIC, FRAME_WINDOW_MAX);
    for (unsigned type = 0; type <= UINT8_MAX; type++) {
        struct frame_doc doc = frame_doc((enum frame_type)type);

        if (doc.name) {
            PUT(&out, "| %u | %s | %s | %s |\n", type, doc.name, doc.from, doc.payload);
        }
    }
    return buf_steal_str(&out);
}
