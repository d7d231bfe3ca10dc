/*
 * The guest's side of `banger cp`, reports and `banger forward`: this program again, as a session's
 * child, with the session's pipes as standard streams. What it reads and writes, and how it tells
 * of failures, is described at FRAME_TAG_FILES.
 */
#pragma once

/* args: "get" or "put", the flags as a number, and the paths; ends with NULL. Or "stats",
 * "processes" or "listeners" (report.h) and flags; or "connect", flags and where to (connect.h).
 * The exit status. */
int files_main(char **args);
