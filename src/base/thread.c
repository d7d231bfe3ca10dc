#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>

const struct lock_rank rank_vm = {.level = 10, .name = "vm"};
const struct lock_rank rank_create = {.level = 20, .name = "create"};
const struct lock_rank rank_image = {.level = 20, .name = "image"};
const struct lock_rank rank_leaf = {.level = 30, .name = "leaf"};

#define RANKS_MAX 4

/* Sanitizers' red zones and shadow frames take several times the stack. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_FACTOR 8
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STACK_FACTOR 8
#endif
#endif
#ifndef STACK_FACTOR
#define STACK_FACTOR 1
#endif

/* The ranks that this thread holds, lowest first. */
static _Thread_local struct {
    const struct lock_rank *held[RANKS_MAX];
    int count;
} ranks;

void rank_push(const struct lock_rank *rank)
{
    assert(ranks.count < RANKS_MAX);
    assert(ranks.count == 0 || ranks.held[ranks.count - 1]->level < rank->level);
    ranks.held[ranks.count++] = rank;
}

void rank_pop(const struct lock_rank *rank)
{
    assert(ranks.count > 0 && ranks.held[ranks.count - 1] == rank);
    ranks.count--;
}

void rank_assert_may_wait(void)
{
    assert(ranks.count == 0 || ranks.held[ranks.count - 1] != &rank_leaf);
}

void lock_init(struct lock *l)
{
    pthread_mutex_init(&l->mutex, NULL);
}

void lock_done(struct lock *l)
{
    pthread_mutex_destroy(&l->mutex);
}

static void ranked_lock(struct lock *l, const struct lock_rank *rank)
{
    rank_push(rank);
    int r = pthread_mutex_lock(&l->mutex);
    assert(r == 0);
    (void)r;
}

static void ranked_unlock(struct lock *l, const struct lock_rank *rank)
{
    int r = pthread_mutex_unlock(&l->mutex);
    assert(r == 0);
    (void)r;
    rank_pop(rank);
}

void leaf_lock(struct lock *l) NO_TS_ANALYSIS
{
    ranked_lock(l, &rank_leaf);
}

void leaf_unlock(struct lock *l) NO_TS_ANALYSIS
{
    ranked_unlock(l, &rank_leaf);
}

void create_lock(struct lock *l) NO_TS_ANALYSIS
{
    ranked_lock(l, &rank_create);
}

void create_unlock(struct lock *l) NO_TS_ANALYSIS
{
    ranked_unlock(l, &rank_create);
}

void image_lock(struct lock *l) NO_TS_ANALYSIS
{
    ranked_lock(l, &rank_image);
}

void image_unlock(struct lock *l) NO_TS_ANALYSIS
{
    ranked_unlock(l, &rank_image);
}

static int start(pthread_t *ret_thread, const char *name, unsigned stack_kib,
                 void *(*fn)(void *arg), void *arg, bool detached)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    int r;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)stack_kib * 1024 * STACK_FACTOR);
    if (detached) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&thread, &attr, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (r != 0) {
        return -r;
    }
    if (!detached) {
        (void)pthread_setname_np(thread, name);
        *ret_thread = thread;
    }
    return 0;
}

int thread_start(pthread_t *ret_thread, const char *name, unsigned stack_kib,
                 void *(*fn)(void *arg), void *arg)
{
    return start(ret_thread, name, stack_kib, fn, arg, false);
}

int thread_start_detached(const char *name, unsigned stack_kib, void *(*fn)(void *arg), void *arg)
{
    pthread_t unused;

    return start(&unused, name, stack_kib, fn, arg, true);
}
