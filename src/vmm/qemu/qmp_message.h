/*
 * One line of QMP, QEMU's control protocol, from the server. Pure. The server runs next to a
 * hostile guest, so nothing about the line is trusted; its length is bounded by who reads it.
 */
#pragma once

#include "codec/json.h"

#include <stdint.h>

enum qmp_kind {
    QMP_GREETING, /* data: what the server says about itself */
    QMP_EVENT,    /* name, data (NULL when it has none) */
    QMP_RETURN,   /* id, data */
    QMP_ERROR,    /* id, name = class, text = description */
};

struct qmp_message {
    enum qmp_kind kind;
    uint64_t id;      /* 0 when the line has none */
    const char *name; /* into root */
    const char *text; /* into root */
    json_t *data;     /* borrowed from root */
    json_t *root;     /* owned */
};

/* Parses one line without its newline. 0, then free it with qmp_message_done; or ERR_VMM. */
int qmp_message_parse(const char *line, size_t len, struct qmp_message *ret, struct err *err);
void qmp_message_done(struct qmp_message *m);
