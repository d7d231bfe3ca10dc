/*
 * What a fake VM does wrong, and when: the text of its label. Pure; failure: -errno.
 *
 *     FAULTS = FAULT[,FAULT...]      FAULT = ACTION@POINT or LIE      e.g. "wait@boot,die@exec"
 *
 * Faults at the same point happen in the order in which they are written. LIE is a mode of
 * liar.h, which takes the agent's place from the start.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FAULTS_MAX 8
#define FAULT_LIE_SIZE 16

enum fault_action {
    FAULT_NONE,
    FAULT_HANG,   /* does nothing any more, and does not end */
    FAULT_WAIT,   /* until the control FIFO says "go" */
    FAULT_EXIT,   /* ends with status FAULT_STATUS */
    FAULT_DIE,    /* is killed by SIGKILL */
    FAULT_IGNORE, /* goes on as if the frame had not come */
};

#define FAULT_STATUS 3

enum fault_point {
    FAULT_AT_BOOT,       /* before anything is served */
    FAULT_AT_HELLO,      /* a host's HELLO is there, and not answered */
    FAULT_AT_GREETED,    /* the answer has been sent */
    FAULT_AT_CONFIGURE,  /* the request is there, and not answered; so the others */
    FAULT_AT_CONFIGURED, /* the answer has been sent */
    FAULT_AT_EXEC,
    FAULT_AT_STARTED, /* the command runs, and the host has been told */
    FAULT_AT_SYNC,
    FAULT_AT_POWEROFF,
    FAULT_AT_FAREWELL, /* all is answered; only the end of the process is missing */
    FAULT_POINT_COUNT,
};

struct fault {
    enum fault_action action;
    enum fault_point point;
};

struct faults {
    struct fault list[FAULTS_MAX];
    size_t count;
    char lie[FAULT_LIE_SIZE]; /* "" = the agent is honest */
};

/* 0; -EINVAL for a text that is not as above, or whose IGNORE has no frame to ignore; -E2BIG for
 * too many. */
int faults_parse(const char *text, struct faults *ret_faults);

const char *fault_point_name(enum fault_point point); /* "boot", "hello", … */
