/* A few threads that run short jobs in order. Threads: any. No job may wait for another. */
#pragma once

struct pool;

typedef void (*pool_fn)(void *arg);

/* Aborts when its threads cannot be started: that happens at start or never. */
struct pool *pool_new(const char *name, unsigned threads);
/* Runs what is queued, then ends the threads. Accepts NULL. */
void pool_free(struct pool *p);
void pool_run(struct pool *p, pool_fn fn, void *arg);
