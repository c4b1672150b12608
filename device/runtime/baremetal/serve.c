/* Firmware that runs a network for a host on the other end of a serial line.
 *
 * The host asks, the firmware answers: a frame for a frame, of the same sequence number. Lost or
 * garbled frames are not answered, so the host asks again; a question that was answered already is
 * answered in the same words, and nothing is done twice. ../../serial_protocol.py has the payloads.
 */
#include "board.h"
#include "clock.h"
#include "frame.h"
#include "headgate.h"
#include "line.h"
#include "stack.h"
#include "window.h"

#include NETWORK_HEADER

enum { HELLO = 1, WRITE = 2, RUN = 3, READ = 4, ANSWER = 0x80, FAULT = 0xFF };
enum { COUNTS = 0x100, CYCLES = 0x101, STACK = 0x102 };
enum { WITH_LAYERS = 1, WITH_STACK = 2, WITH_WINDOW = 4 };
enum { PROTOCOL = 2 };
/* Codes of the firmware's own, beside those of headgate.h. */
enum { NOT_GREETED = -100, UNKNOWN_QUESTION = -101, OUT_OF_RANGE = -102 };

static uint8_t arena[NETWORK_ARENA_BYTES] __attribute__((aligned(HEADGATE_ARENA_ALIGNMENT)));
static uint8_t tensors[NETWORK_TENSOR_BYTES] __attribute__((aligned(8)));
static void *inputs[NETWORK_INPUTS], *outputs[NETWORK_OUTPUTS];
static uint32_t layer_cycles[NETWORK_LAYERS];
static int32_t counts[NETWORK_GATES + 1];
static uint32_t stack_bytes;
static const headgate_network *network;

static frame_reader reader;
static uint8_t answer[FRAME_BYTES];
static uint32_t answer_bytes;
static uint8_t answered[FRAME_HEADER + FRAME_CRC]; /* what the last question began and ended with */
static int greeted;

static uint32_t get(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint8_t *put(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        *to++ = (uint8_t)(value >> 8 * i);
    return to;
}

static void copy(uint8_t *to, const uint8_t *from, size_t count)
{
    while (count--)
        *to++ = *from++;
}

static void lay_out(void)
{
    uint8_t *at = tensors;
    for (int32_t i = 0; i < network->input_count; i++) {
        inputs[i] = at;
        at += (network->inputs[i].bytes + 7) / 8 * 8;
    }
    for (int32_t i = 0; i < network->output_count; i++) {
        outputs[i] = at;
        at += (network->outputs[i].bytes + 7) / 8 * 8;
    }
}

static uint64_t entered;

static void enter(void *user, int32_t layer)
{
    (void)user;
    (void)layer;
    entered = clock_cycles();
}

static void leave(void *user, int32_t layer)
{
    (void)user;
    layer_cycles[layer] += (uint32_t)(clock_cycles() - entered);
}

/* The answer's payload behind the status; each returns where it ends. */

static uint8_t *hello(const uint8_t *question, uint8_t *to)
{
    copy(to, question, 4);
    to = put(to + 4, PROTOCOL);
    copy(to, (const uint8_t *)NETWORK_MODEL, 8);
    to = put(put(to + 8, BOARD_CLOCK_HZ), (uint32_t)clock_counter());
    copy(to, (const uint8_t *)BOARD_NAME, sizeof BOARD_NAME - 1);
    greeted = 1;
    return to + sizeof BOARD_NAME - 1;
}

static int32_t write(const uint8_t *question, uint32_t length)
{
    const uint32_t index = get(question), offset = get(question + 4), count = length - 8;
    if (index >= NETWORK_INPUTS)
        return OUT_OF_RANGE;
    const size_t bytes = network->inputs[index].bytes;
    if (offset > bytes || count > bytes - offset)
        return OUT_OF_RANGE;
    copy((uint8_t *)inputs[index] + offset, question + 8, count);
    return 0;
}

/* So many inferences of what lies in the inputs, back to back; the cycles of all together, up to the
 * first that fails. Not inlined: the stack is measured from its frame. */
__attribute__((noinline)) static int32_t run(uint32_t flags, uint32_t inferences, uint64_t *cycles)
{
    const headgate_hook hook = { enter, leave, 0 };
    for (uint32_t i = 0; i < NETWORK_LAYERS; i++)
        layer_cycles[i] = 0;
    if (flags & WITH_STACK)
        stack_paint();
    if (flags & WITH_WINDOW)
        window_open();
    int32_t status = 0;
    *cycles = 0;
    const uint64_t start = clock_cycles();
    for (uint32_t i = 0; i < inferences && !status; i++) {
        status = NETWORK_RUN((const void *const *)inputs, outputs, arena, sizeof arena,
                             flags & WITH_LAYERS ? &hook : 0);
        *cycles = clock_cycles() - start;
    }
    if (flags & WITH_WINDOW)
        window_close();
    if (flags & WITH_STACK)
        stack_bytes = stack_used(__builtin_frame_address(0));
    for (int32_t i = 0; i < network->gate_count; i++)
        copy((uint8_t *)&counts[i], arena + network->gates[i].count_offset, sizeof counts[i]);
    return status;
}

static int32_t read(const uint8_t *question, uint8_t **to)
{
    const uint32_t what = get(question), offset = get(question + 4), count = get(question + 8);
    const uint8_t *from;
    size_t bytes;
    if (what < NETWORK_OUTPUTS) {
        from = outputs[what];
        bytes = network->outputs[what].bytes;
    } else if (what == COUNTS) {
        from = (const uint8_t *)counts;
        bytes = NETWORK_GATES * sizeof counts[0];
    } else if (what == CYCLES) {
        from = (const uint8_t *)layer_cycles;
        bytes = sizeof layer_cycles;
    } else if (what == STACK) {
        from = (const uint8_t *)&stack_bytes;
        bytes = sizeof stack_bytes;
    } else {
        return OUT_OF_RANGE;
    }
    if (offset > bytes || count > bytes - offset || count > FRAME_PAYLOAD - 4)
        return OUT_OF_RANGE;
    copy(*to, from + offset, count);
    *to += count;
    return 0;
}

static uint32_t respond(uint8_t kind, const uint8_t *question, uint32_t length)
{
    uint8_t *const status = answer + FRAME_HEADER;
    uint8_t *end = status + 4;
    int32_t code = UNKNOWN_QUESTION;
    if (kind == HELLO && length == 4) {
        code = 0;
        end = hello(question, end);
    } else if (!greeted) {
        code = NOT_GREETED;
    } else if (kind == WRITE && length >= 8) {
        code = write(question, length);
    } else if (kind == RUN && length == 8) {
        uint64_t cycles;
        code = run(get(question), get(question + 4), &cycles);
        end = put(put(end, (uint32_t)cycles), (uint32_t)(cycles >> 32));
    } else if (kind == READ && length == 12) {
        code = read(question, &end);
    }
    put(status, (uint32_t)code);
    return (uint32_t)(end - status);
}

/* Whether the frame in the reader is the last one again. */
static int is_repeated(void)
{
    const uint8_t *frame = reader.bytes, *crc = frame + FRAME_HEADER + frame_length(frame);
    int same = greeted;
    for (int i = 0; i < FRAME_HEADER; i++) {
        same &= answered[i] == frame[i];
        answered[i] = frame[i];
    }
    for (int i = 0; i < FRAME_CRC; i++) {
        same &= answered[FRAME_HEADER + i] == crc[i];
        answered[FRAME_HEADER + i] = crc[i];
    }
    return same;
}

void fault(void)
{
    line_write(answer, frame_close(answer, FAULT, 0, 0));
}

int main(void)
{
    network = NETWORK_DESCRIPTION();
    lay_out();
    clock_start();
    window_start();
    line_open();
    for (;;) {
        if (!frame_push(&reader, line_read()))
            continue;
        const uint8_t *frame = reader.bytes;
        if (!is_repeated()) {
            const uint32_t length =
                respond(frame_kind(frame), frame + FRAME_HEADER, frame_length(frame));
            answer_bytes =
                frame_close(answer, frame_kind(frame) | ANSWER, frame_sequence(frame), length);
        }
        line_write(answer, answer_bytes);
    }
}
