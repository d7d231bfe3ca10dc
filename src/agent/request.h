/*
 * What the host asks of the guest as a whole: configure, sync, grow its disk, poweroff. Nothing
 * here blocks the loop, except the last sync before the machine goes down. Threads: one.
 */
#pragma once

#include "agent/init.h"
#include "agent/poller.h"
#include "agent/session.h"

#define REQUEST_JOBS_MAX 16
#define REQUEST_TERM_MS 2000 /* from SIGTERM to SIGKILL */
#define REQUEST_KILL_MS 1000 /* from SIGKILL to going on without them */
#define REQUEST_FLUSH_MS 500 /* for the host to take the last frames */
#define REQUEST_TEXT_MAX 256
#define REQUEST_TOLD_MAX 512 /* of what is so, in an answer to CONFIGURE */
/* An init that has just begun may not listen yet. */
#define REQUEST_ASK_MS 3000
#define REQUEST_ASKS 5

enum power {
    POWER_ON,
    POWER_ASKED, /* the image's init is to power off; it ends all processes, us too */
    POWER_TERMINATING,
    POWER_KILLING,
    POWER_LEAVING, /* all is on the disk; the last frames are on their way */
    POWER_OFF,
};

/* What may take seconds is done by a child. */
struct job {
    pid_t pid; /* 0: free */
    uint32_t stream;
    bool silent; /* who asked is gone */
    bool done;
    int error; /* of a done one: its errno */
};

struct requests {
    struct poller *poller;
    struct sessions *sessions;
    bool live;           /* a guest; else a test, which must change nothing */
    struct init *init;   /* the image's, or NULL; borrowed */
    bool by_init;        /* it ends all processes, and then the machine */
    int data_fd;         /* a directory of the data disk, or -1; borrowed, as the next */
    int disk_fd;         /* its block device, or -1 */
    uint8_t gateway4[4]; /* that the guest was told of last, or 0; of a fork, as its template */
    enum power power;
    uint32_t power_stream;
    bool power_silent; /* nobody waits for the answer */
    unsigned asks;     /* of init, so far */
    pid_t asker;       /* its program that asks it, or 0 */
    int refused;       /* status of wait() of the last one; 0: it did ask */
    bool refusal_due;
    bool reply_due;
    bool farewell_due;
    struct source timer;
    struct job jobs[REQUEST_JOBS_MAX];
};

int requests_init(struct requests *q, struct poller *poller,
                  struct sessions *sessions) _must_check_;
void requests_done(struct requests *q);

/* A frame of type CONFIGURE, SYNC, GROW or POWEROFF; at most one frame goes to out. */
void requests_frame(struct requests *q, const struct frame *f, struct buf *out);

/* A generation of the link has ended: nobody waits for the answers. */
void requests_detach(struct requests *q);

/* The image's init ends all processes now. */
void requests_init_ends(struct requests *q);

/* A child has ended; then, whether none is left. */
void requests_reaped(struct requests *q, pid_t pid, int status);
void requests_idle(struct requests *q, bool no_children);

/* Appends an answer that became due, if there is one. */
bool requests_next(struct requests *q, struct buf *out);

/* The last words, after all that the sessions could send; then, when out has been written. */
bool requests_farewell(struct requests *q, struct buf *out);
void requests_flushed(struct requests *q);
