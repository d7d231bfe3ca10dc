/* Names of signals, as kill(1) takes them. */
#pragma once

/* "TERM", "SIGTERM", "term" or "15": the number, 1 to 64. -EINVAL when there is no such signal. */
int signal_parse(const char *text);
