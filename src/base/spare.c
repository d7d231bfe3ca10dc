#include "base/spare.h"

#include "base/str.h"
#include "base/thread.h"

struct job {
    struct spare *spare;
    struct job *next;
    void (*fn)(void *arg);
    void *arg;
};

struct spare {
    /* immutable */
    const char *name;
    unsigned stack_kib, kept;

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t more, ended;
    struct job *first; /* for idle threads, no more than there are: in any order */
    unsigned queued, idle, threads;
    bool ending;
};

/* The next job, or NULL when the thread is to end. */
static struct job *next_job_locked(struct spare *s)
{
    struct job *job;

    if (s->ending || s->idle == s->kept) {
        return NULL;
    }
    s->idle++;
    while (!s->first && !s->ending) {
        pthread_cond_wait(&s->more, &s->lock);
    }
    s->idle--;
    job = s->first;
    if (job) {
        s->first = job->next;
        s->queued--;
    }
    return job;
}

static void *spare_main(void *arg)
{
    struct job *job = arg;
    struct spare *s = job->spare;

    while (job) {
        job->fn(job->arg);
        free(job);
        pthread_mutex_lock(&s->lock);
        job = next_job_locked(s);
        if (!job && --s->threads == 0) {
            pthread_cond_signal(&s->ended);
        }
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

struct spare *spare_new(const char *name, unsigned stack_kib, unsigned kept)
{
    struct spare *s = x_calloc(1, sizeof(*s));

    s->name = name;
    s->stack_kib = stack_kib;
    s->kept = kept;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->more, NULL);
    pthread_cond_init(&s->ended, NULL);
    return s;
}

void spare_free(struct spare *s)
{
    if (!s) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->more);
    while (s->threads > 0) {
        pthread_cond_wait(&s->ended, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&s->ended);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int spare_run(struct spare *s, void (*fn)(void *arg), void *arg)
{
    struct job *job = x_calloc(1, sizeof(*job));
    bool queued;
    int r;

    *job = (struct job){.spare = s, .fn = fn, .arg = arg};
    pthread_mutex_lock(&s->lock);
    queued = s->idle > s->queued;
    if (queued) {
        job->next = s->first;
        s->first = job;
        s->queued++;
        pthread_cond_signal(&s->more);
    } else {
        s->threads++;
    }
    pthread_mutex_unlock(&s->lock);
    if (queued) {
        return 0;
    }
    r = thread_start_detached(s->name, s->stack_kib, spare_main, job);
    if (r < 0) {
        pthread_mutex_lock(&s->lock);
        if (--s->threads == 0) {
            pthread_cond_signal(&s->ended);
        }
        pthread_mutex_unlock(&s->lock);
        free(job);
    }
    return r;
}
