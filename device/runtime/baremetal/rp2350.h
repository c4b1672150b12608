/* Pins of RP2350. */
#ifndef HEADGATE_RP2350_H
#define HEADGATE_RP2350_H

#include "registers.h"

#define RP2350_IO 0x40028000u
#define RP2350_PADS 0x40038000u

enum { RP2350_PAD = 1 << 6 | 1 << 4 | 1 << 3 | 1 << 1, RP2350_ISOLATED = 1 << 8 };

/* A pad is an input with a trigger, pulled up, that drives 4 mA. It is cut off from the chip after
 * reset, and let in last, when it is known what drives it. */
static inline void rp2350_route(uint32_t pin, uint32_t function)
{
    const uint32_t pad = RP2350_PADS + 4 + 4 * pin;
    REGISTER(pad) = RP2350_PAD | RP2350_ISOLATED;
    REGISTER(RP2350_IO + 4 + 8 * pin) = function;
    REGISTER(pad) = RP2350_PAD;
}

#endif
