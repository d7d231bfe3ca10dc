/*
 * The terminal that we run on: its size, its name, raw mode, and stopping as job control wants it.
 * Raw mode ends on every way out of the process but SIGKILL: by terminal_restore, or, when a signal
 * that nobody handles kills us, by a handler. There is one terminal in raw mode at most. One
 * thread.
 */
#pragma once

#include "codec/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

struct terminal {
    int fd;   /* borrowed */
    bool raw; /* terminal_raw was called, terminal_restore was not */
    struct termios saved;
};

/* Keys come as bytes, as they are typed, and output is not changed. What was typed before stays to
 * be read. In the background this stops us (SIGTTOU), as it does any program. 0 or -errno. */
int terminal_raw(struct terminal *t, int fd);

/* Nothing when it is not raw, or gone. Usable as a cleanup. */
void terminal_restore(struct terminal *t);

/* SIGTSTP came: restores, stops, and is raw again when we go on. */
void terminal_stop(struct terminal *t);

/* Keys go nowhere for a while: those that are signals are signals, the others wait. Until
 * terminal_resume; nothing when it is not raw. */
void terminal_pause(struct terminal *t);

/* After a pause, or when SIGCONT came: the shell may have changed the modes. */
void terminal_resume(struct terminal *t);

/* Has it hung up? */
bool terminal_is_gone(const struct terminal *t);

struct terminal_size {
    uint16_t rows, columns;
};

/* Of the first of stdin, stdout and stderr that is a terminal and knows its size. False: of none.
 */
bool terminal_size(struct terminal_size *ret);

/* Appends to env, an array of NAME=value, what programs must know of our terminal: TERM, COLORTERM,
 * and, when our locale is UTF-8, LC_CTYPE=C.UTF-8; not what env names already. Messages, sorting
 * and formats (LANG and the other LC_*) are the guest's own affair. */
void terminal_put_env(json_t *env, char *(*get)(const char *name));

/* A descriptor of the same terminal whose writes do not block; our own flags are shared with other
 * processes and stay. -1 when fd is no terminal, or not to be opened again. */
int terminal_reopen(int fd);
