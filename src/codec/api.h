/*
 * The table of RPC methods: names, parameters with type, limits, default and text, and results.
 * Pure data, and the one place where they stand: the daemon validates requests by it, rpc.discover
 * and docs/PROTOCOL.md are printed from it, and the CLI's flags take their texts and limits from
 * it.
 */
#pragma once

#include "codec/json.h"

#include <stdint.h>

enum api_type {
    API_STRING, /* UTF-8, max = bytes */
    API_BYTES,  /* a string, or {"base64": "..."}: any bytes but NUL */
    API_BOOL,
    API_INT,        /* min..max */
    API_BYTES_LIST, /* array of API_BYTES, max = entries */
    API_LABELS,     /* object of strings, max = entries */
    API_MAIN,       /* object with the parameters of session.start but vm */
    API_TTY,        /* {"rows": 1..65535, "columns": 1..65535} */
};

struct api_param {
    const char *name;
    enum api_type type;
    bool required;
    long long min, max;
    const char *choices;  /* API_STRING: allowed values separated by '|', or NULL */
    const char *fallback; /* default as text, for people; NULL = none */
    const char *doc;
};

enum api_flags {
    API_NOTIFIES = 1 << 0,   /* sends notifications on the connection before its reply */
    API_TAKES_OVER = 1 << 1, /* after the reply the connection carries frames (codec/frame.h) */
    API_SLOW = 1 << 2,       /* may wait: gets a thread of its own instead of a pool worker */
    API_LATER = 1 << 3,      /* begun on the loop's thread, answered by another */
};

struct api_method {
    const char *name;
    unsigned flags;
    const struct api_param *params; /* ends with a NULL name */
    const char *result;             /* what comes back, e.g. "VM", "array of VM" */
    const char *doc;
};

extern const struct api_method api_methods[]; /* ends with a NULL name */

/* The members of an API_MAIN object. */
extern const struct api_param *const api_session_params;

/* "string", "integer", "boolean", "array of bytes"… for help and documents. */
const char *api_type_name(enum api_type type);

const struct api_method *api_method_find(const char *name);                           /* or NULL */
const struct api_param *api_param_find(const struct api_method *m, const char *name); /* or NULL */

/* Checks params (an object) against the method: unknown names (with the nearest known one),
 * missing ones, types, limits. ERR_INVALID naming the parameter. */
int api_validate(const struct api_method *m, const json_t *params, struct err *err);

/* The table as an OpenRPC 1.2 document. */
json_t *api_openrpc(const char *version);
/* The table as the Markdown of docs/PROTOCOL.md. Free it. */
char *api_markdown(void);
