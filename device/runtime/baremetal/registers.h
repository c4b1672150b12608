/* Registers by their addresses. */
#ifndef HEADGATE_REGISTERS_H
#define HEADGATE_REGISTERS_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

/* Sets the bits of `field`, and leaves the others as they are. */
static inline void register_set(uint32_t address, uint32_t field, uint32_t value)
{
    REGISTER(address) = (REGISTER(address) & ~field) | value;
}

/* Waits until the bits of `field` are `value`. */
static inline void register_wait(uint32_t address, uint32_t field, uint32_t value)
{
    while ((REGISTER(address) & field) != value) {
    }
}

#endif
