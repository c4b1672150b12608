#include "window.h"

#include "board.h"
#include "clock.h"

/* Much longer than a meter needs, and nothing beside a window of seconds. */
enum { HOLD_US = 10 };

static void hold(void)
{
    const uint64_t start = clock_cycles();
    while (clock_cycles() - start < (uint64_t)HOLD_US * (BOARD_CLOCK_HZ / 1000000u)) {
    }
}

void window_start(void)
{
    pin_open();
    pin_write(1);
}

void window_open(void)
{
    pin_write(0);
}

void window_close(void)
{
    pin_write(1);
    hold();
    pin_write(0);
    hold();
    pin_write(1);
}
