/* Timing of whole runs and of layers. In C, so that no interpreter is inside the clock. */
#define _POSIX_C_SOURCE 200809L

#include "headgate.h"

#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int32_t headgate_time(const headgate_network *network, const void *const *inputs,
                      void *const *outputs, const void *weights, void *arena, headgate_team *team,
                      int32_t repeat, uint64_t *nanoseconds)
{
    for (int32_t i = 0; i < repeat; i++) {
        const uint64_t start = now_ns();
        const int32_t error = network->run(inputs, outputs, weights, arena, NULL, team);
        nanoseconds[i] = now_ns() - start;
        if (error)
            return error;
    }
    return 0;
}

typedef struct {
    uint64_t entered;
    uint64_t *layer_ns; /* [layer_count] of the current run */
} stopwatch;

static void enter_layer(void *user, int32_t layer)
{
    (void)layer;
    ((stopwatch *)user)->entered = now_ns();
}

static void leave_layer(void *user, int32_t layer)
{
    stopwatch *watch = user;
    watch->layer_ns[layer] += now_ns() - watch->entered;
}

int32_t headgate_profile(const headgate_network *network, const void *const *inputs,
                         void *const *outputs, const void *weights, void *arena,
                         headgate_team *team, int32_t repeat, uint64_t *nanoseconds)
{
    stopwatch watch = {0, nanoseconds};
    const headgate_hook hook = {enter_layer, leave_layer, &watch};
    for (int32_t i = 0; i < repeat; i++) {
        for (int32_t layer = 0; layer < network->layer_count; layer++)
            watch.layer_ns[layer] = 0;
        const int32_t error = network->run(inputs, outputs, weights, arena, &hook, team);
        if (error)
            return error;
        watch.layer_ns += network->layer_count;
    }
    return 0;
}
