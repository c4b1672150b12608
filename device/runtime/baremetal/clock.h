/* Time in cycles of the core's clock. */
#ifndef HEADGATE_CLOCK_H
#define HEADGATE_CLOCK_H

#include <stdint.h>

void clock_start(void);
uint64_t clock_cycles(void);

#endif
