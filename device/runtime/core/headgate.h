/* The C interface of a compiled headgate network.
 *
 * A generated network.c defines headgate_get_network(); timing.c and runner.c use nothing else.
 * Everything a network needs is the caller's: it allocates nothing, keeps no state outside the
 * arena and may run in several threads at once, each with its own arena and outputs.
 *
 * Alignment the caller guarantees: arena 64 bytes; inputs, outputs and weights 4 bytes. Functions for microcontrollers check it.
 */
#ifndef HEADGATE_H
#define HEADGATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a structure or the meaning of a field below changes. */
#define HEADGATE_ABI 2

/* What a function that runs a network returns. */
#define HEADGATE_OK 0
#define HEADGATE_NULL_POINTER -1    /* an argument, or one of its pointers, is NULL */
#define HEADGATE_MISALIGNED -2      /* the arena, an input or an output */
#define HEADGATE_ARENA_TOO_SMALL -3

#define HEADGATE_ARENA_ALIGNMENT 64

/* What a shared object shows, also when it is built with -fvisibility=hidden. */
#define HEADGATE_EXPORT __attribute__((visibility("default")))

/* An input or output: float32, row-major, batch size 1 in shape[0]. */
typedef struct {
    const char *name;
    int32_t rank; /* entries of shape in use */
    int32_t shape[8];
    size_t bytes;
} headgate_tensor;

/* A layer; its position in headgate_network.layers is what the hook is given. */
typedef struct {
    const char *name;          /* module path in the PyTorch network */
    const char *operator_name; /* such as gated_conv2d */
} headgate_layer;

/* A gate. After a run the int32_t at arena + count_offset says how many of its channels were
 * active. A pixel gate decides on single numbers: its channels are those of the whole tensor,
 * C * H * W, and its count is of the numbers that were computed from all inputs. */
typedef struct {
    const char *name;
    int32_t channels;
    size_t count_offset;
} headgate_gate;

/* Threads that share the work of a layer; NULL stands for the calling thread alone. The task is
 * called once for each part of 0..parts - 1, at the same time; run returns when all are done. */
#define HEADGATE_MAX_THREADS 16

typedef struct headgate_team {
    int32_t size;
    void (*run)(struct headgate_team *team,
                void (*task)(void *frame, int32_t part, int32_t parts), void *frame);
} headgate_team;

/* Called before and after every layer. Layers do not nest; one may be entered several times. */
typedef struct {
    void (*enter)(void *user, int32_t layer);
    void (*leave)(void *user, int32_t layer);
    void *user;
} headgate_hook;

typedef struct {
    uint32_t abi; /* HEADGATE_ABI of the header it was compiled with */
    const char *name;
    int32_t input_count, output_count, layer_count, gate_count;
    const headgate_tensor *inputs, *outputs;
    const headgate_layer *layers;
    const headgate_gate *gates;
    size_t arena_bytes;
    size_t thread_bytes; /* more arena for each thread of a team beyond the first */
    size_t weights_bytes; /* of the data section of weights.safetensors */
    /* One inference. `weights` is the first byte of that data section; `hook` and `team` may be
     * NULL. Results are the same bits for any team. Returns 0, or an error code of the network's
     * own. */
    int32_t (*run)(const void *const *inputs, void *const *outputs, const void *weights,
                   void *arena, const headgate_hook *hook, headgate_team *team);
} headgate_network;

HEADGATE_EXPORT const headgate_network *headgate_get_network(void);

/* A team of `size` threads, the calling one included; NULL if there is no memory or no thread.
 * One network may use it at a time. */
HEADGATE_EXPORT headgate_team *headgate_start_team(int32_t size);

/* Ends the threads; NULL is allowed. */
HEADGATE_EXPORT void headgate_stop_team(headgate_team *team);

/* Run `repeat` times and store each run's duration in nanoseconds[repeat].
 * Stops at the first run that fails and returns its code, otherwise 0. */
HEADGATE_EXPORT int32_t headgate_time(const headgate_network *network, const void *const *inputs,
                                      void *const *outputs, const void *weights, void *arena,
                                      headgate_team *team, int32_t repeat, uint64_t *nanoseconds);

/* The same, with the durations of the layers: nanoseconds[repeat][layer_count]. A layer's time
 * includes reading the clock once (some tens of nanoseconds). */
HEADGATE_EXPORT int32_t headgate_profile(const headgate_network *network,
                                         const void *const *inputs, void *const *outputs,
                                         const void *weights, void *arena, headgate_team *team,
                                         int32_t repeat, uint64_t *nanoseconds);

#ifdef __cplusplus
}
#endif

#endif
