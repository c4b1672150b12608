#include "semihosting.h"

enum { WRITE0 = 0x04, EXIT = 0x18 };
enum { APPLICATION_EXIT = 0x20026, RUN_TIME_ERROR = 0x20023 };
enum { BREAKPOINT_AB = 0xBEAB };

void fault(void);

static void call(uint32_t operation, uint32_t argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register uint32_t r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void print(const char *text)
{
    call(WRITE0, (uint32_t)text);
}

void print_number(uint64_t number)
{
    char text[21], *at = text;
    /* By subtraction: a division of 64 bits is a function that not every compiler brings. */
    for (int digits = 19; digits >= 0; digits--) {
        uint64_t power = 1;
        for (int i = 0; i < digits; i++)
            power *= 10;
        char digit = '0';
        for (; number >= power; number -= power)
            digit++;
        if (digit != '0' || at != text || digits == 0)
            *at++ = digit;
    }
    *at = 0;
    print(text);
}

_Noreturn void finish(int succeeded)
{
    call(EXIT, succeeded ? APPLICATION_EXIT : RUN_TIME_ERROR);
    for (;;) {
    }
}

/* Without a debugger the breakpoint is a fault: it is stepped over, so that the firmware runs on. */
__attribute__((used)) static void hard_fault(uint32_t *frame)
{
    const uint16_t *instruction = (const uint16_t *)frame[6];
    if (*instruction == BREAKPOINT_AB) {
        frame[6] += 2;
        return;
    }
    fault();
    for (;;) {
    }
}

__attribute__((naked)) void HardFault_Handler(void)
{
    __asm volatile("tst lr, #4\n\t"
                   "ite eq\n\t"
                   "mrseq r0, msp\n\t"
                   "mrsne r0, psp\n\t"
                   "b hard_fault");
}
