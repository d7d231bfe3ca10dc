/* Signals as events. */
#pragma once

#include <stdbool.h>

/* Makes SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2, those that we do not ignore (nohup),
 * readable from the descriptor that is returned, and has writes to closed pipes fail instead of
 * killing us. -1 with errno. */
int signals_open(void);

/* The same for SIGWINCH, and, for a terminal in raw mode, SIGTSTP and SIGCONT. */
int signals_open_terminal(bool raw);

/* The next signal, or 0 when there is none. */
int signals_read(int fd);
