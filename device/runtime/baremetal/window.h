/* What an external meter sees of a measured window, on one pin.
 *
 * The pin is high, low during the window, and goes low once more just behind it. So falling edges are
 * at the window's beginning and end, as MLPerf Tiny's runner wants them (each held for a microsecond
 * or more), and a meter that logs levels sees the window as the time in which the pin is low.
 */
#ifndef HEADGATE_WINDOW_H
#define HEADGATE_WINDOW_H

#include <stdint.h>

void window_start(void);
void window_open(void);
void window_close(void);

/* The board's: drives the pin. */
void pin_open(void);
void pin_write(uint32_t level);

#endif
