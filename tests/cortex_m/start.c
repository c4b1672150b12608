/* Runs the calls of a test on a Cortex-M of QEMU: memory in, memory and instruction counts out. */
#include <stddef.h>
#include <stdint.h>

#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define TICKS 0xFFFFFFu

extern uint8_t block[], image[], image_end[];
extern uint32_t counts[];
extern const uint32_t call_count;
extern void call(uint32_t index);

extern uint32_t stack_top, bss_start, bss_end;

void *memset(void *to, int value, size_t size)
{
    for (uint8_t *at = to; size; size--) *at++ = (uint8_t)value;
    return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
    const uint8_t *source = from;
    for (uint8_t *at = to; size; size--) *at++ = *source++;
    return to;
}

void __aeabi_memset(void *to, size_t size, int value) { memset(to, value, size); }
void __aeabi_memset4(void *to, size_t size, int value) { memset(to, value, size); }
void __aeabi_memset8(void *to, size_t size, int value) { memset(to, value, size); }
void __aeabi_memclr(void *to, size_t size) { memset(to, 0, size); }
void __aeabi_memclr4(void *to, size_t size) { memset(to, 0, size); }
void __aeabi_memclr8(void *to, size_t size) { memset(to, 0, size); }
void __aeabi_memcpy(void *to, const void *from, size_t size) { memcpy(to, from, size); }
void __aeabi_memcpy4(void *to, const void *from, size_t size) { memcpy(to, from, size); }
void __aeabi_memcpy8(void *to, const void *from, size_t size) { memcpy(to, from, size); }

static int semihost(int what, const void *arguments)
{
    register int r0 __asm("r0") = what;
    register const void *r1 __asm("r1") = arguments;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(int status)
{
    uint32_t arguments[2] = {0x20026, (uint32_t)status};
    semihost(0x20, arguments);
    for (;;) {}
}

static void save(const char *name, uint32_t length, const void *from, uint32_t size)
{
    uint32_t opened[3] = {(uint32_t)name, 5, length};
    uint32_t written[3] = {(uint32_t)semihost(1, opened), (uint32_t)from, size};
    if (semihost(5, written)) leave(3);
    semihost(2, written);
}

static void fault(void) { leave(99); }

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the FPU */
    __asm volatile("dsb; isb");
    for (uint32_t *at = &bss_start; at < &bss_end; at++) *at = 0;
    uint32_t size = (uint32_t)(image_end - image);
    memcpy(block, image, size);
    SYSTICK[1] = TICKS;
    for (uint32_t i = 0; i < call_count; i++) {
        SYSTICK[2] = 0;
        SYSTICK[0] = 5;
        __asm volatile("" ::: "memory");
        call(i);
        __asm volatile("" ::: "memory");
        counts[i] = TICKS - SYSTICK[2];
    }
    save("after.bin", 9, block, size);
    save("counts.bin", 10, counts, 4 * call_count);
    leave(0);
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &stack_top, reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault};
