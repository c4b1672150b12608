/* Runs a network on raw little-endian files; linked with network.c, timing.c and team.c.
 *
 * Inputs and outputs are float32, counts int32, times uint64 nanoseconds. Samples are
 * concatenated, and read, run and written one at a time, so memory does not grow with their
 * number. A network with several inputs or outputs takes the option once for each, in order.
 */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include "headgate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the files of headgate bundles are little-endian"
#endif

enum { MAX_TENSORS = 16, ALIGNMENT = 64, MOST_RUNS = 1000000000 };

static const char usage_text[] =
    "usage: runner --weights FILE --input FILE --output FILE [--counts FILE] [--times FILE]\n"
    "              [--layers FILE] [--repeat N] [--warmup N] [--threads N]\n"
    "       runner --describe\n"
    "Samples in the input file are concatenated; each is run N times after the warm-up.\n"
    "  --counts  int32  [samples][gates]           active channels\n"
    "  --times   uint64 [samples][repeat]          nanoseconds of each run\n"
    "  --layers  uint64 [samples][repeat][layers]  nanoseconds of each layer, in runs of its own\n";

typedef struct {
    const char *path;
    FILE *file;
} stream;

typedef struct {
    const char *weights;
    stream inputs[MAX_TENSORS], outputs[MAX_TENSORS];
    stream counts, times, layers;
    int32_t input_count, output_count, repeat, warmup, threads;
    int describe;
} options;

/* Files being written, so that a failure leaves no half of one behind. */
static stream *written[MAX_TENSORS + 3];
static int written_count;

_Noreturn __attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fputs("runner: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    for (int i = 0; i < written_count; i++) {
        struct stat status;
        /* Only what is an ordinary file: the path may be /dev/stdout. */
        if (stat(written[i]->path, &status) == 0 && S_ISREG(status.st_mode))
            remove(written[i]->path);
    }
    exit(1);
}

static int32_t parse_count(const char *option, const char *text, long smallest, long largest)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < smallest || value > largest)
        fail("%s wants a number from %ld to %ld, not '%s'", option, smallest, largest, text);
    return (int32_t)value;
}

static void add_stream(const char *option, stream *streams, int32_t *count, const char *path)
{
    if (*count == MAX_TENSORS)
        fail("%s given more than %d times", option, MAX_TENSORS);
    streams[(*count)++].path = path;
}

static options parse(int argc, char **argv)
{
    options chosen = {.repeat = 1, .threads = 1};
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (!strcmp(option, "--describe")) {
            chosen.describe = 1;
            continue;
        }
        if (!strcmp(option, "--help")) {
            fputs(usage_text, stdout);
            exit(0);
        }
        static const char *const known[] = {"--weights", "--input",  "--output",
                                            "--counts",  "--times",  "--layers",
                                            "--repeat",  "--warmup", "--threads"};
        size_t which = 0;
        while (which < sizeof known / sizeof *known && strcmp(option, known[which]))
            which++;
        if (which == sizeof known / sizeof *known)
            fail("unknown option '%s'; --help lists them", option);
        if (++i == argc)
            fail("%s needs a value; --help shows how", option);
        const char *value = argv[i];
        switch (which) {
        case 0: chosen.weights = value; break;
        case 1: add_stream(option, chosen.inputs, &chosen.input_count, value); break;
        case 2: add_stream(option, chosen.outputs, &chosen.output_count, value); break;
        case 3: chosen.counts.path = value; break;
        case 4: chosen.times.path = value; break;
        case 5: chosen.layers.path = value; break;
        case 6: chosen.repeat = parse_count(option, value, 1, MOST_RUNS); break;
        case 7: chosen.warmup = parse_count(option, value, 0, MOST_RUNS); break;
        default: chosen.threads = parse_count(option, value, 1, HEADGATE_MAX_THREADS); break;
        }
    }
    return chosen;
}

static size_t product(size_t a, size_t b)
{
    if (b && a > SIZE_MAX / b)
        fail("%zu x %zu does not fit this machine's memory", a, b);
    return a * b;
}

/* Aligned and zeroed; never NULL. */
static void *allocate(size_t bytes, const char *what)
{
    if (bytes > SIZE_MAX - ALIGNMENT)
        fail("no memory for %s: %zu bytes", what, bytes);
    const size_t rounded = (bytes / ALIGNMENT + 1) * ALIGNMENT;
    void *memory = aligned_alloc(ALIGNMENT, rounded);
    if (!memory)
        fail("no memory for %s: %zu bytes", what, bytes);
    return memset(memory, 0, rounded);
}

static uint64_t size_of(FILE *file, const char *path)
{
    struct stat status;
    if (fstat(fileno(file), &status))
        fail("cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        fail("%s is not an ordinary file", path);
    return (uint64_t)status.st_size;
}

static FILE *open_to_read(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("cannot read %s: %s", path, strerror(errno));
    return file;
}

static void open_to_write(stream *target)
{
    if (!target->path)
        return;
    target->file = fopen(target->path, "wb");
    if (!target->file)
        fail("cannot write %s: %s", target->path, strerror(errno));
    written[written_count++] = target;
}

static void read_exactly(FILE *file, const char *path, void *data, size_t bytes)
{
    if (fread(data, 1, bytes, file) != bytes)
        fail("cannot read %s: %s", path, ferror(file) ? strerror(errno) : "it ends too early");
}

static void write_exactly(const stream *target, const void *data, size_t bytes)
{
    if (target->file && fwrite(data, 1, bytes, target->file) != bytes)
        fail("cannot write %s: %s", target->path, strerror(errno));
}

static void close_written(void)
{
    for (int i = 0; i < written_count; i++)
        if (fclose(written[i]->file))
            fail("cannot write %s: %s", written[i]->path, strerror(errno));
}

/* The data section of a safetensors file: 8 bytes of header length, the header, the data. */
static void *read_weights(const char *path, size_t needed)
{
    FILE *file = open_to_read(path);
    const uint64_t bytes = size_of(file, path);
    uint64_t header;
    if (bytes < sizeof header)
        fail("%s is not a safetensors file: %" PRIu64 " bytes", path, bytes);
    read_exactly(file, path, &header, sizeof header);
    if (header > bytes - sizeof header)
        fail("%s is truncated: its header ends after the file", path);
    const uint64_t data = bytes - sizeof header - header;
    if (data < needed)
        fail("%s has %" PRIu64 " bytes of weights, the network needs %zu", path, data, needed);
    if (fseeko(file, (off_t)(sizeof header + header), SEEK_SET))
        fail("cannot read %s: %s", path, strerror(errno));
    void *weights = allocate(needed, "the weights");
    read_exactly(file, path, weights, needed);
    fclose(file);
    return weights;
}

/* Opens the inputs and returns how many samples they hold. */
static uint64_t open_inputs(const headgate_network *network, stream *inputs)
{
    uint64_t samples = 0;
    for (int32_t i = 0; i < network->input_count; i++) {
        const headgate_tensor *tensor = &network->inputs[i];
        inputs[i].file = open_to_read(inputs[i].path);
        const uint64_t bytes = size_of(inputs[i].file, inputs[i].path);
        if (bytes == 0 || bytes % tensor->bytes)
            fail("%s has %" PRIu64 " bytes, input '%s' takes a multiple of %zu", inputs[i].path,
                 bytes, tensor->name, tensor->bytes);
        if (i && bytes / tensor->bytes != samples)
            fail("%s holds %" PRIu64 " samples, %s %" PRIu64, inputs[i].path,
                 bytes / tensor->bytes, inputs[0].path, samples);
        samples = bytes / tensor->bytes;
    }
    return samples;
}

static void check_run(const headgate_network *network, int32_t error)
{
    if (error)
        fail("network '%s' returned error %" PRId32, network->name, error);
}

static void run(const headgate_network *network, options *chosen)
{
    if (!chosen->weights)
        fail("--weights is missing; --help shows how to call this program");
    if (chosen->input_count != network->input_count)
        fail("--input given %" PRId32 " times, the network has %" PRId32 " inputs",
             chosen->input_count, network->input_count);
    if (chosen->output_count != network->output_count)
        fail("--output given %" PRId32 " times, the network has %" PRId32 " outputs",
             chosen->output_count, network->output_count);

    const void *inputs[MAX_TENSORS];
    void *input_memory[MAX_TENSORS], *outputs[MAX_TENSORS];
    for (int32_t i = 0; i < network->input_count; i++)
        inputs[i] = input_memory[i] = allocate(network->inputs[i].bytes, "an input");
    for (int32_t i = 0; i < network->output_count; i++)
        outputs[i] = allocate(network->outputs[i].bytes, "an output");
    const size_t extra = product((size_t)chosen->threads - 1, network->thread_bytes);
    if (extra > SIZE_MAX - network->arena_bytes)
        fail("%" PRId32 " threads do not fit this machine's memory", chosen->threads);
    unsigned char *arena = allocate(network->arena_bytes + extra, "the arena");
    headgate_team *team = NULL;
    if (chosen->threads > 1 && !(team = headgate_start_team(chosen->threads)))
        fail("cannot start %" PRId32 " threads", chosen->threads);
    const size_t repeat = (size_t)chosen->repeat;
    const size_t times_bytes = product(repeat, sizeof(uint64_t));
    const size_t layers_bytes = product(times_bytes, (size_t)network->layer_count);
    uint64_t *times = allocate(times_bytes, "the times");
    uint64_t *layers = chosen->layers.path ? allocate(layers_bytes, "the layer times") : NULL;
    const void *weights = read_weights(chosen->weights, network->weights_bytes);

    const uint64_t samples = open_inputs(network, chosen->inputs);
    for (int32_t i = 0; i < network->output_count; i++)
        open_to_write(&chosen->outputs[i]);
    open_to_write(&chosen->counts);
    open_to_write(&chosen->times);
    open_to_write(&chosen->layers);

    for (uint64_t sample = 0; sample < samples; sample++) {
        for (int32_t i = 0; i < network->input_count; i++)
            read_exactly(chosen->inputs[i].file, chosen->inputs[i].path, input_memory[i],
                         network->inputs[i].bytes);
        for (int32_t i = 0; i < chosen->warmup; i++)
            check_run(network, network->run(inputs, outputs, weights, arena, NULL, team));
        if (chosen->times.path || !layers)
            check_run(network, headgate_time(network, inputs, outputs, weights, arena, team,
                                             chosen->repeat, times));
        if (layers)
            check_run(network, headgate_profile(network, inputs, outputs, weights, arena, team,
                                                chosen->repeat, layers));
        for (int32_t i = 0; i < network->output_count; i++)
            write_exactly(&chosen->outputs[i], outputs[i], network->outputs[i].bytes);
        for (int32_t i = 0; i < network->gate_count; i++)
            write_exactly(&chosen->counts, arena + network->gates[i].count_offset,
                          sizeof(int32_t));
        write_exactly(&chosen->times, times, times_bytes);
        write_exactly(&chosen->layers, layers, layers_bytes);
    }
    close_written();
    headgate_stop_team(team);
}

static void print_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        const unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else if (byte < 0x20)
            printf("\\u%04x", byte);
        else
            putchar(byte);
    }
    putchar('"');
}

static void print_tensors(const char *key, const headgate_tensor *tensors, int32_t count)
{
    printf(" \"%s\": [", key);
    for (int32_t i = 0; i < count; i++) {
        printf("%s{\"name\": ", i ? ", " : "");
        print_string(tensors[i].name);
        printf(", \"shape\": [");
        for (int32_t axis = 0; axis < tensors[i].rank; axis++)
            printf("%s%" PRId32, axis ? ", " : "", tensors[i].shape[axis]);
        printf("], \"bytes\": %zu}", tensors[i].bytes);
    }
    printf("],\n");
}

static void describe(const headgate_network *network)
{
    printf("{\"abi\": %" PRIu32 ", \"name\": ", network->abi);
    print_string(network->name);
    printf(",\n \"arena_bytes\": %zu, \"thread_bytes\": %zu, \"weights_bytes\": %zu,\n",
           network->arena_bytes, network->thread_bytes, network->weights_bytes);
    print_tensors("inputs", network->inputs, network->input_count);
    print_tensors("outputs", network->outputs, network->output_count);
    printf(" \"gates\": [");
    for (int32_t i = 0; i < network->gate_count; i++) {
        printf("%s{\"name\": ", i ? ", " : "");
        print_string(network->gates[i].name);
        printf(", \"channels\": %" PRId32 ", \"count_offset\": %zu}", network->gates[i].channels,
               network->gates[i].count_offset);
    }
    printf("],\n \"layers\": [");
    for (int32_t i = 0; i < network->layer_count; i++) {
        printf("%s{\"name\": ", i ? ", " : "");
        print_string(network->layers[i].name);
        printf(", \"operator\": ");
        print_string(network->layers[i].operator_name);
        putchar('}');
    }
    printf("]}\n");
    if (fflush(stdout))
        fail("cannot write the description: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    options chosen = parse(argc, argv);
    const headgate_network *network = headgate_get_network();
    if (network->abi != HEADGATE_ABI)
        fail("the network has interface version %" PRIu32 ", this runner %d; recompile it",
             network->abi, HEADGATE_ABI);
    if (network->input_count > MAX_TENSORS || network->output_count > MAX_TENSORS)
        fail("the network has more than %d inputs or outputs", MAX_TENSORS);
    if (chosen.describe)
        describe(network);
    else
        run(network, &chosen);
    return 0;
}
