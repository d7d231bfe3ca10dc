/*
 * The guest's end of `banger forward`: this program again, as a session's child, which connects
 * standard input and output to a service of the guest (FRAME_FILES_CONNECT).
 */
#pragma once

/*
 * to: "HOST:PORT", where HOST is "localhost" (127.0.0.1, or else ::1), an IPv4 address or an IPv6
 * address in brackets; or the absolute path of a Unix socket. Carries bytes until both directions
 * have ended, each by itself. 0, or the errno of a connection that could not be made; what ends one
 * that was made is no failure.
 */
int connect_and_carry(const char *to);
