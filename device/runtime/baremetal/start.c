/* From reset to main: vectors, an FPU, the chip, memory. */
#include "chip.h"

#include <stdint.h>

extern uint32_t _data_from[], _data[], _data_end[], _bss[], _bss_end[], _stack_end[];

int main(void);
void SysTick_Handler(void);
/* What a crash of the core calls, as the last thing. */
void fault(void);

void Reset_Handler(void);

static void stop(void)
{
    fault();
    for (;;) {
    }
}

/* Firmware may have one of its own. */
void HardFault_Handler(void) __attribute__((weak, alias("stop")));

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    _stack_end, (void *)Reset_Handler, (void *)stop, (void *)HardFault_Handler, (void *)stop,
    (void *)stop, (void *)stop, (void *)stop, 0, 0, 0, (void *)stop, (void *)stop, 0, (void *)stop,
    (void *)SysTick_Handler,
};

#define CPACR (*(volatile uint32_t *)0xE000ED88)
#define VTOR (*(volatile uint32_t *)0xE000ED08)

/* A board whose chip needs nothing. */
__attribute__((weak)) void chip_open(void)
{
}

/* The loops write through volatile, or the compiler would make calls of memcpy and memset of them. */
void Reset_Handler(void)
{
    VTOR = (uint32_t)vectors;
#ifdef __ARM_FP
    CPACR |= 0xFu << 20;
    __asm volatile("dsb\n\tisb" ::: "memory");
#endif
    chip_open();
    volatile uint32_t *to = _data;
    for (const uint32_t *from = _data_from; to < _data_end;)
        *to++ = *from++;
    for (to = _bss; to < _bss_end;)
        *to++ = 0;
    main();
    stop();
}
