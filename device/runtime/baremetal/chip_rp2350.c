/* RP2350: a crystal of 12 MHz through the PLL of the system. Flash is read as the boot ROM left it,
 * at a third of this clock or less. */
#include "board.h"
#include "chip.h"
#include "rp2350.h"

#define CLOCKS 0x40010000u
#define RESETS 0x40020000u
#define XOSC 0x40048000u
#define PLL 0x40050000u
#define UART0 0x40070000u

enum { SYS = 0x3C, PERI = 0x48, DIVIDER = 4, SELECTED = 8 };
enum { SOURCE = 1, BY_REF = 0, BY_FURTHER = 1, FURTHER = 7 << 5 };
enum { PERI_ON = 1 << 11, ONE = 1 << 16 };
enum { RESET_DONE = 8, IO_BANK0 = 1 << 6, PADS_BANK0 = 1 << 9, PLL_SYS = 1 << 14, FIRST_UART = 26 };
enum { XOSC_STATUS = 4, XOSC_STARTUP = 12, TO_15_MHZ = 0xAA0, XOSC_ON = 0xFAB << 12, ONE_MS = 47 };
enum { PLL_POWER = 4, PLL_FEEDBACK = 8, PLL_POST = 12 };
enum { CORE_OFF = 1 << 0, POST_OFF = 1 << 3, VCO_OFF = 1 << 5 };
#define STABLE 0x80000000u /* of the crystal, and of the PLL */

/* 12 MHz x 125 / 5 / 2, as the SDK of these chips has it. */
enum { FEEDBACK = BOARD_CLOCK_HZ / 1200000, POST_1 = 5, POST_2 = 2 };

static void start(uint32_t blocks)
{
    REGISTER(RESETS) &= ~blocks;
    register_wait(RESETS + RESET_DONE, blocks, blocks);
}

static void start_crystal(void)
{
    REGISTER(XOSC) = TO_15_MHZ;
    REGISTER(XOSC + XOSC_STARTUP) = ONE_MS;
    REGISTER(XOSC) = TO_15_MHZ | XOSC_ON;
    register_wait(XOSC + XOSC_STATUS, STABLE, STABLE);
}

static void start_pll(void)
{
    REGISTER(RESETS) |= PLL_SYS;
    start(PLL_SYS);
    REGISTER(PLL) = 1;
    REGISTER(PLL + PLL_FEEDBACK) = FEEDBACK;
    REGISTER(PLL + PLL_POWER) &= ~(uint32_t)(CORE_OFF | VCO_OFF);
    register_wait(PLL, STABLE, STABLE);
    REGISTER(PLL + PLL_POST) = POST_1 << 16 | POST_2 << 12;
    REGISTER(PLL + PLL_POWER) &= ~(uint32_t)POST_OFF;
}

/* Which of the further sources is meant stays as it is: it may not change while one is used. */
static void run_by(uint32_t source)
{
    register_set(CLOCKS + SYS, SOURCE, source);
    register_wait(CLOCKS + SYS + SELECTED, 3, 1u << source);
}

void chip_open(void)
{
    start_crystal();
    /* Off the PLL, should the boot ROM have used it, while that is changed. */
    run_by(BY_REF);
    start_pll();
    /* Of the further sources the first is the PLL, and for peripherals this clock itself. */
    register_set(CLOCKS + SYS, FURTHER, 0);
    REGISTER(CLOCKS + SYS + DIVIDER) = ONE;
    run_by(BY_FURTHER);
    REGISTER(CLOCKS + PERI + DIVIDER) = ONE;
    REGISTER(CLOCKS + PERI) = PERI_ON;
    start(IO_BANK0 | PADS_BANK0 | 1u << (FIRST_UART + (BOARD_UART - UART0) / 0x8000));
    rp2350_route(BOARD_UART_TX, BOARD_UART_FUNCTION);
    rp2350_route(BOARD_UART_RX, BOARD_UART_FUNCTION);
}
