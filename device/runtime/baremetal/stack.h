/* How deep the stack gets below a function. */
#ifndef HEADGATE_STACK_H
#define HEADGATE_STACK_H

#include <stdint.h>

/* Paints the free memory below the caller. */
void stack_paint(void);

/* Bytes below `from` that were written since; `from` is __builtin_frame_address(0) of the function
 * that painted, whose own frame they include. */
uint32_t stack_used(const void *from);

#endif
