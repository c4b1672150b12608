/* Runs the network on its test vectors, compares, and prints what each inference takes. */
#include "clock.h"
#include "headgate.h"
#include "network.h"
#include "semihosting.h"

static unsigned char arena[NETWORK_ARENA_BYTES]
    __attribute__((aligned(HEADGATE_ARENA_ALIGNMENT)));
static float results[NETWORK_OUTPUT_FLOATS];

void fault(void)
{
    print("the core has crashed\n");
    finish(0);
}

/* NaN is not near. */
static int is_near(float found, float expected, float distance)
{
    const float difference = found - expected;
    return difference <= distance && difference >= -distance;
}

/* Runs the test vector at `at`, whose inputs and expected outputs lie one behind the other;
 * whether all is right. */
static int run(const float *at)
{
    const headgate_network *network = NETWORK_DESCRIPTION();
    const void *inputs[NETWORK_INPUTS];
    void *outputs[NETWORK_OUTPUTS];
    for (int32_t i = 0; i < network->input_count; i++) {
        inputs[i] = at;
        at += network->inputs[i].bytes / sizeof *at;
    }
    float *to = results;
    for (int32_t i = 0; i < network->output_count; i++) {
        outputs[i] = to;
        to += network->outputs[i].bytes / sizeof *to;
    }
    const uint64_t start = clock_cycles();
    const int32_t code = NETWORK_RUN(inputs, outputs, arena, sizeof arena, 0);
    const uint64_t cycles = clock_cycles() - start;
    print_number(NETWORK_COUNTED(cycles));
    print(" " NETWORK_UNIT);
    if (code) {
        print(", error code -");
        print_number((uint32_t)-code);
        return 0;
    }
    int right = 1;
    const float *found = results;
    for (int32_t i = 0; i < network->output_count; i++)
        for (size_t j = 0; j < network->outputs[i].bytes / sizeof *at; j++)
            right &= is_near(*found++, *at++, network_distances[i]);
    print(right ? ", right" : ", WRONG");
    return right;
}

int main(void)
{
    clock_start();
    print(NETWORK_NAME "\n");
    int failed = 0;
    const float *vector = network_vectors;
    for (int i = 0; i < NETWORK_VECTORS; i++) {
        print("vector ");
        print_number((uint64_t)i);
        print(": ");
        failed += !run(vector);
        print("\n");
        vector += NETWORK_VECTOR_FLOATS;
    }
    print(failed ? "FAILED\n" : "passed\n");
    finish(!failed);
}
