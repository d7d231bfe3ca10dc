/*
 * An agent that breaks the protocol, for tests of the host: in a fake VM, and in real guests
 * (tests/guest/broken_agent.c). Modes:
 *
 *   deaf       never answers                        garbage    writes noise instead of answers
 *   fatal      says that it cannot go on            malformed  greets, then sends what is no frame
 *   unknown    greets, then sends an unknown type   dumb       greets, and answers nothing more
 *   greedy     sends output that nobody asked for   backwards  acknowledges stdin that never was
 *   flood      sends states of sessions that are not there, without end
 *   old        is one from before file transfers: finds no command in what it is asked to start
 *
 * Told who it is, it reads back another `name`, `machine-id`, `boot-id`, `network` or `clock`;
 * `nobody` reads back no more than the clock, and `half` leaves out the last byte.
 *
 * Once a client listens to a session's output:
 *   gap        leaves bytes out                     early-end    ends it before its end
 *   late       sends bytes behind the end           early-exit   exits before the ends
 *   inward     sends bytes of stdin                 endless      claims a frame of 4 GiB
 *   short      sends half a window                  shrinking    takes back a window
 *   status     exits with a status of 1000          stranger     speaks of sessions that are not
 *                                                                there, but serves this one
 *
 * Blocks; one thread.
 */
#pragma once

#include <stdbool.h>

bool liar_knows(const char *mode);

/* Serves one host on a blocking descriptor in a mode that it knows. socket: the descriptor has an
 * end, and then it returns; it never does on a guest's port. SIGPIPE must be ignored. */
void liar_serve(int fd, bool socket, const char *mode);
