/*
 * Threads for jobs that may wait: each job has one at once, however many there are, and a few
 * threads that have done theirs are kept for the next, because starting and ending one costs more
 * than most jobs do. Lock: plain, as in base/loop: held for a few instructions, nests under nothing
 * of ours. Threads: any.
 */
#pragma once

struct spare;

/* name is borrowed for its life. */
struct spare *spare_new(const char *name, unsigned stack_kib, unsigned kept);
/* Waits for the jobs that run. NULL is accepted. */
void spare_free(struct spare *s);
/* 0, or -errno when no thread can be started. */
int spare_run(struct spare *s, void (*fn)(void *arg), void *arg);
