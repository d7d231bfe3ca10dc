#include "rpc/pool.h"

#include "base/str.h"
#include "base/thread.h"

struct job {
    struct job *next;
    pool_fn fn;
    void *arg;
};

struct pool {
    unsigned count;
    pthread_t *threads;

    /* under lock; plain, as in base/loop: held for a few instructions, nests under nothing */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *first, **last;
    bool ending;
};

static void *pool_main(void *arg)
{
    struct pool *p = arg;

    for (;;) {
        struct job *job;

        pthread_mutex_lock(&p->lock);
        while (!p->first && !p->ending) {
            pthread_cond_wait(&p->more, &p->lock);
        }
        job = p->first;
        if (job) {
            p->first = job->next;
            p->last = p->first ? p->last : &p->first;
        }
        pthread_mutex_unlock(&p->lock);
        if (!job) {
            return NULL;
        }
        job->fn(job->arg);
        free(job);
    }
}

struct pool *pool_new(const char *name, unsigned threads)
{
    struct pool *p = x_calloc(1, sizeof(*p));

    p->count = threads;
    p->threads = x_calloc(threads, sizeof(*p->threads));
    p->last = &p->first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    for (unsigned i = 0; i < threads; i++) {
        if (thread_start(&p->threads[i], name, 256, pool_main, p) < 0) {
            abort();
        }
    }
    return p;
}

void pool_free(struct pool *p)
{
    if (!p) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->count; i++) {
        pthread_join(p->threads[i], NULL);
    }
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}

void pool_run(struct pool *p, pool_fn fn, void *arg)
{
    struct job *job = x_calloc(1, sizeof(*job));

    job->fn = fn;
    job->arg = arg;
    pthread_mutex_lock(&p->lock);
    *p->last = job;
    p->last = &job->next;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
}
