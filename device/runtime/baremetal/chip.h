/* What a chip needs before main, chip_KIND.c: its core at BOARD_CLOCK_HZ, its UART with a clock and,
 * where other pins could be chosen, on the board's. A board that needs nothing has none.
 *
 * It is called before variables are there, and uses none: STM32H7A3 wants its supply chosen before
 * its RAM is filled, and filling it is faster then.
 */
#ifndef HEADGATE_CHIP_H
#define HEADGATE_CHIP_H

void chip_open(void);

#endif
