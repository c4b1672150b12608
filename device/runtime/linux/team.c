/* A small team of threads that share the kernels of one network.
 *
 * Kernels follow each other within microseconds, so those who wait for the next one spin for a
 * while before they sleep.
 */
#define _POSIX_C_SOURCE 200809L

#include "headgate.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 20000, SPINS_BEFORE_YIELD = 2000 };

typedef struct team team;

typedef struct {
    team *of;
    int32_t part;
    pthread_t thread;
} member;

struct team {
    headgate_team shared; /* first, so that a pointer to it is one to the whole */
    void (*task)(void *frame, int32_t part, int32_t parts);
    void *frame;
    atomic_uint round;   /* raised when there is a task */
    atomic_int busy;     /* members that have not finished it */
    atomic_int sleepers; /* members that must be woken */
    atomic_int stopping;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int32_t started;
    member members[HEADGATE_MAX_THREADS - 1];
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for_round(team *t, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&t->round) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&t->mutex);
    /* Before the last look at the round: whoever raises it then sees the sleeper. */
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(&t->round) == seen)
        pthread_cond_wait(&t->wake, &t->mutex);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->mutex);
}

static void begin_round(team *t)
{
    atomic_fetch_add(&t->round, 1);
    if (atomic_load(&t->sleepers)) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->mutex);
    }
}

static void *work(void *argument)
{
    const member *me = argument;
    team *t = me->of;
    for (unsigned seen = 0;; seen++) {
        wait_for_round(t, seen);
        if (atomic_load(&t->stopping))
            return NULL;
        t->task(t->frame, me->part, t->shared.size);
        atomic_fetch_sub(&t->busy, 1);
    }
}

static void run(headgate_team *shared, void (*task)(void *frame, int32_t part, int32_t parts),
                void *frame)
{
    team *t = (team *)shared;
    t->task = task;
    t->frame = frame;
    atomic_store(&t->busy, t->shared.size - 1);
    begin_round(t);
    task(frame, 0, t->shared.size);
    for (int i = 0; atomic_load(&t->busy); i++) {
        if (i < SPINS_BEFORE_YIELD)
            relax();
        else
            sched_yield();
    }
}

void headgate_stop_team(headgate_team *shared)
{
    team *t = (team *)shared;
    if (!t)
        return;
    atomic_store(&t->stopping, 1);
    begin_round(t);
    for (int32_t i = 0; i < t->started; i++)
        pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

headgate_team *headgate_start_team(int32_t size)
{
    if (size < 1 || size > HEADGATE_MAX_THREADS)
        return NULL;
    team *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->shared.size = size;
    t->shared.run = run;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    for (int32_t i = 0; i < size - 1; i++) {
        t->members[i].of = t;
        t->members[i].part = i + 1;
        if (pthread_create(&t->members[i].thread, NULL, work, &t->members[i])) {
            headgate_stop_team(&t->shared);
            return NULL;
        }
        t->started++;
    }
    return &t->shared;
}
