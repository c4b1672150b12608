/* The stack grows down to where the variables end. What of it is free is painted; the lowest word
 * that has lost its colour afterwards is the deepest that anybody was. */
#include "stack.h"

extern uint32_t _bss_end[];

#define PAINT 0xC0105EEDu
/* Words below the stack pointer that stay as they are: this function's own frame, which may grow
 * after the pointer was read. They count as used. */
#define OWN 16

void stack_paint(void)
{
    uint32_t *pointer;
    __asm volatile("mov %0, sp" : "=r"(pointer));
    for (volatile uint32_t *at = _bss_end; at < pointer - OWN; at++)
        *at = PAINT;
}

uint32_t stack_used(const void *from)
{
    const volatile uint32_t *at = _bss_end;
    while ((const void *)at < from && *at == PAINT)
        at++;
    return (uint32_t)((uintptr_t)from - (uintptr_t)at);
}
