/*
 * The tables of RPC methods (api.c) and of the objects that they take and return (api_objects.c):
 * names, types, limits, defaults, texts. Pure data, and the one place where they stand: the daemon
 * validates requests and its own replies by them, rpc.discover and docs/PROTOCOL.md are printed
 * from them, and the CLI's flags take their texts and limits from them.
 */
#pragma once

#include "codec/json.h"

#include <stdint.h>

enum api_type {
    API_STRING, /* UTF-8, max = bytes, 0 = any */
    API_BYTES,  /* a string, or {"base64": "..."}: any bytes but NUL */
    API_BOOL,
    API_INT,        /* min..max */
    API_BYTES_LIST, /* array of API_BYTES, max = entries */
    API_LABELS,     /* object of strings, max = entries */
    API_OBJECT,     /* one `object` */
    API_CALL_ID,    /* what a request may have as its id: an integer or a string */
    API_MEMBERS, /* array of names of members of `object`, and of members of those: "image.name" */
    /* In results only: */
    API_ID,      /* 32 hexadecimal digits */
    API_DIGEST,  /* "sha256:" and 64 of them */
    API_TIME,    /* RFC 3339, UTC, milliseconds */
    API_STRINGS, /* array of strings */
    API_COUNTS,  /* object of integers from 0; its keys are of `choices` */
    API_LIST,    /* array of `object` */
    API_ONE_OF,  /* one of `objects` */
    API_SCALAR,  /* a string, {"base64": "..."}, an integer, true or false */
};

#define API_VM_LABELS_MAX 64

struct api_object;

/* A named value: a parameter of a method, or a member of an object. */
struct api_param {
    const char *name;
    enum api_type type;
    bool required;
    bool nullable; /* may be null */
    long long min, max;
    const char *choices; /* API_STRING: allowed values separated by '|', or NULL */
    const struct api_object *object;
    const struct api_object *const *objects; /* ends with NULL */
    const char *fallback; /* default as text; what a request leaves out; NULL = none */
    const char *doc;
};

struct api_object {
    const char *name;
    const struct api_param *members; /* ends with a NULL name; NULL = whatever it has */
    const char *doc;
};

enum api_flags {
    API_NOTIFIES = 1 << 0,   /* sends notifications (api_notifications) before its reply */
    API_TAKES_OVER = 1 << 1, /* after the reply the connection carries frames (codec/frame.h) */
    API_SLOW = 1 << 2,       /* may wait: gets a thread of its own instead of a pool worker */
    API_LATER = 1 << 3,      /* begun on the loop's thread, answered by another */
};

/* What comes back: one object, or a list of them. */
struct api_result {
    const struct api_object *object;
    bool list;
    bool nullable; /* may be null */
    bool
        partial; /* a list whose objects may have only some of their members: who asks says which */
};

struct api_method {
    const char *name;
    unsigned flags;
    const struct api_param *params; /* ends with a NULL name */
    struct api_result result;
    const char *doc;
};

struct api_notification {
    const char *name;
    const char *method; /* which sends it */
    const struct api_object *params;
    const char *doc;
};

extern const struct api_method api_methods[];             /* ends with a NULL name */
extern const struct api_notification api_notifications[]; /* ends with a NULL name */
extern const struct api_object *const api_objects[];      /* all of them; ends with NULL */

/* Those that a method's row names. */
extern const struct api_object api_document, api_nothing, api_session_spec, api_terminal, api_vm,
    api_vm_position, api_session, api_operation, api_event, api_image, api_kernel,
    api_daemon_status, api_cancelled, api_log, api_ping, api_vm_stats, api_processes, api_listeners,
    api_vm_set, api_vm_start, api_pruned, api_template, api_template_check, api_configuration,
    api_discrepancy, api_store_check, api_finding;

/* "string", "integer", "boolean", "array of bytes"… for help and documents. */
const char *api_type_name(enum api_type type);

const struct api_method *api_method_find(const char *name);                           /* or NULL */
const struct api_param *api_param_find(const struct api_method *m, const char *name); /* or NULL */
const struct api_param *api_param_in(const struct api_object *o, const char *name);   /* or NULL */

/* Checks params (an object) against the method: unknown names (with the nearest known one),
 * missing ones, types, limits. ERR_INVALID naming the parameter. */
int api_validate(const struct api_method *m, const json_t *params, struct err *err);

/* The default of a parameter that has one, as a value. The caller owns it. */
json_t *api_default(const struct api_param *p);

/* Puts the table's defaults where validated params leave something out. */
void api_fill_defaults(const struct api_method *m, json_t *params);

/* There, and not null. */
bool api_given(const json_t *params, const char *name);

/* Reads validated and filled params. A string may be absent (NULL) when it is neither required nor
 * has a default; asking for another type than the table's, or for a number or flag that may be
 * absent, is a bug. Borrowed. */
const char *api_str(const json_t *params, const char *name);
long long api_int(const json_t *params, const char *name);
bool api_flag(const json_t *params, const char *name);

/* Checks a reply or a notification before it is sent: members that are missing, unknown or of the
 * wrong type. ERR_INTERNAL that names the member. NULL stands for {}. */
int api_check_result(const struct api_method *m, const json_t *result, struct err *err);
int api_check_notification(const char *name, const json_t *params, struct err *err);

/* The table as an OpenRPC 1.2 document. */
json_t *api_openrpc(const char *version);
/* The table as the Markdown of docs/PROTOCOL.md. Free it. */
char *api_markdown(void);
