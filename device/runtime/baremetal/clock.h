/* Time in cycles of the core's clock. */
#ifndef HEADGATE_CLOCK_H
#define HEADGATE_CLOCK_H

#include <stdint.h>

typedef enum { CLOCK_DWT = 1, CLOCK_SYSTICK = 2 } clock_source;

void clock_start(void);
uint64_t clock_cycles(void);
/* What counts them. */
clock_source clock_counter(void);

#endif
