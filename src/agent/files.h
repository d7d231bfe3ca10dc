/*
 * The guest's side of `banger cp`: this program again, as a session's child, with the session's
 * pipes as standard streams. What it reads and writes, and how it tells of failures, is described
 * at FRAME_TAG_FILES.
 */
#pragma once

/* args: "get" or "put", the flags as a number, and the paths; ends with NULL. Or "stats" or
 * "processes" (report.h) and flags. The exit status. */
int files_main(char **args);
