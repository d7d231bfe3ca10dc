/* Signals as events. */
#pragma once

/* Makes SIGINT, SIGTERM, SIGHUP and SIGQUIT, those that we do not ignore (nohup), readable from the
 * descriptor that is returned, and has writes to closed pipes fail instead of killing us. -1 with
 * errno. */
int signals_open(void);

/* The next signal, or 0 when there is none. */
int signals_read(int fd);
