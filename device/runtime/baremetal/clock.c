/* DWT's cycle counter where there is one, else SysTick, which QEMU has.
 *
 * Both are read at least once in 2^32 or 2^24 cycles: SysTick counts its own turns by an exception,
 * DWT's are seen when the clock is read, and 2^32 cycles are 15 s at the fastest clock of the
 * boards, longer than any layer.
 */
#include "clock.h"

#include "registers.h"

#define DEMCR REGISTER(0xE000EDFC)
#define DWT_CONTROL REGISTER(0xE0001000)
#define DWT_CYCLES REGISTER(0xE0001004)
#define DWT_LOCK REGISTER(0xE0001FB0)
#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)
#define ICSR REGISTER(0xE000ED04)

enum { TRACE_ON = 1 << 24, COUNT_ON = 1, PERIOD = 1 << 24, PENDING = 1 << 26, CORE_CLOCK = 7 };
#define UNLOCK 0xC5ACCE55u

static volatile uint32_t turns;
static uint32_t last;
static int has_dwt;

void SysTick_Handler(void)
{
    turns++;
}

void clock_start(void)
{
    DEMCR |= TRACE_ON;
    DWT_LOCK = UNLOCK; /* Cortex-M7's takes no other writes before */
    DWT_CYCLES = 0;
    DWT_CONTROL |= COUNT_ON;
    for (volatile int i = 0; i < 100; i++) {
    }
    has_dwt = DWT_CYCLES != 0;
    if (has_dwt)
        return;
    SYSTICK_RELOAD = PERIOD - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = CORE_CLOCK;
    while (!SYSTICK_VALUE) {
    }
}

uint64_t clock_cycles(void)
{
    if (has_dwt) {
        const uint32_t now = DWT_CYCLES;
        turns += now < last;
        last = now;
        return (uint64_t)turns << 32 | now;
    }
    uint32_t before, value;
    /* Again if it turned over between the two readings. */
    do {
        before = turns;
        value = SYSTICK_VALUE;
    } while (before != turns || ICSR & PENDING);
    return (uint64_t)before * PERIOD + (PERIOD - 1 - value);
}

clock_source clock_counter(void)
{
    return has_dwt ? CLOCK_DWT : CLOCK_SYSTICK;
}
