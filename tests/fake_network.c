/* A network of two layers, written by hand, that stands in for what the compiler generates.
 *
 * Input [1,4,2,3]. Layer 0, "gate": keeps the channels whose sum is positive and writes their
 * count and list to the arena. Layer 1, "scale": output [1,4] is weight[c] * sum of channel c,
 * 0 for a channel that is off. A first value that is NaN makes it return error 7, and with
 * NEEDS_DOTPROD it executes an instruction that a Cortex-A72 lacks.
 */
#include "headgate.h"

enum { CHANNELS = 4, PIXELS = 6 };

static const headgate_tensor inputs[] = {{"image", 4, {1, CHANNELS, 2, 3}, 96}};
static const headgate_tensor outputs[] = {{"score", 2, {1, CHANNELS}, 16}};
static const headgate_layer layers[] = {{"block.gate", "gate"}, {"block.\"conv\"", "gated_conv2d"}};
static const headgate_gate gates[] = {{"block", CHANNELS, 64}};

typedef struct {
    float sums[16];
    int32_t count;
    int32_t list[CHANNELS];
} arena_layout;

static int32_t run(const void *const *in, void *const *out, const void *weights, void *arena,
                   const headgate_hook *hook, headgate_team *team)
{
    (void)team;
    const float *image = in[0], *weight = weights;
    float *score = out[0];
    arena_layout *memory = arena;
    if ((uintptr_t)arena % 64)
        return 64;
#ifdef NEEDS_DOTPROD
    __asm__ volatile(".arch_extension dotprod\n\tsdot v0.4s, v0.16b, v0.16b" ::: "v0");
#endif
    if (image[0] != image[0])
        return 7;
    if (hook)
        hook->enter(hook->user, 0);
    memory->count = 0;
    for (int32_t c = 0; c < CHANNELS; c++) {
        score[c] = memory->sums[c] = 0;
        for (int32_t i = 0; i < PIXELS; i++)
            memory->sums[c] += image[c * PIXELS + i];
        if (memory->sums[c] > 0)
            memory->list[memory->count++] = c;
    }
    if (hook)
        hook->leave(hook->user, 0);
    if (hook)
        hook->enter(hook->user, 1);
    for (int32_t i = 0; i < memory->count; i++)
        score[memory->list[i]] = weight[memory->list[i]] * memory->sums[memory->list[i]];
    if (hook)
        hook->leave(hook->user, 1);
    return 0;
}

static const headgate_network network = {HEADGATE_ABI, "fake", 1,     1,     2,  1,  inputs,
                                         outputs,      layers, gates, 128, 0, 16, run};

const headgate_network *headgate_get_network(void)
{
    return &network;
}
