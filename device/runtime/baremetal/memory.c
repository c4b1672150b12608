/* The two functions of the C library that a network needs, and the names that Arm's ABI has for
 * them. Weak: where there is a C library, its own are taken. */
#include <stddef.h>
#include <stdint.h>

#define WEAK __attribute__((weak))

WEAK void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (!(((uintptr_t)t | (uintptr_t)f) % 4))
        for (; count >= 4; count -= 4, t += 4, f += 4)
            *(uint32_t *)t = *(const uint32_t *)f;
    while (count--)
        *t++ = *f++;
    return to;
}

WEAK void *memset(void *to, int value, size_t count)
{
    uint8_t *t = to;
    const uint32_t word = 0x01010101u * (uint8_t)value;
    if (!((uintptr_t)t % 4))
        for (; count >= 4; count -= 4, t += 4)
            *(uint32_t *)t = word;
    while (count--)
        *t++ = (uint8_t)value;
    return to;
}

#define COPY(name)                                                \
    WEAK void name(void *to, const void *from, size_t count)      \
    {                                                             \
        memcpy(to, from, count);                                  \
    }
#define SET(name)                                                 \
    WEAK void name(void *to, size_t count, int value)             \
    {                                                             \
        memset(to, value, count);                                 \
    }
#define CLEAR(name)                                               \
    WEAK void name(void *to, size_t count)                        \
    {                                                             \
        memset(to, 0, count);                                     \
    }

COPY(__aeabi_memcpy)
COPY(__aeabi_memcpy4)
COPY(__aeabi_memcpy8)
SET(__aeabi_memset)
SET(__aeabi_memset4)
SET(__aeabi_memset8)
CLEAR(__aeabi_memclr)
CLEAR(__aeabi_memclr4)
CLEAR(__aeabi_memclr8)

/* Named by the tables for exceptions that Arm's compilers add; nothing throws one. */
WEAK void __aeabi_unwind_cpp_pr0(void)
{
}

WEAK void __aeabi_unwind_cpp_pr1(void)
{
}
