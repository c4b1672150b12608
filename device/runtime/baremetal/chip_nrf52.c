/* nRF52: its core always runs at 64 MHz, here by the crystal, without which the UART's speed is not
 * exact and its cycles are no time. Code in flash is cached. */
#include "chip.h"
#include "registers.h"

#define CLOCK 0x40000000u
#define CACHE 0x4001E540u

enum { START = 0x000, STARTED = 0x100 };

void chip_open(void)
{
    REGISTER(CLOCK + START) = 1;
    register_wait(CLOCK + STARTED, 1, 1);
    REGISTER(CACHE) = 1;
}
