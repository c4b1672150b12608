/* A pin of RP2350 by its block for single-cycle access, SIO. */
#include "board.h"
#include "rp2350.h"
#include "window.h"

enum { BY_SIO = 5, HIGH = 0x18, LOW = 0x20, OUTPUT_ON = 0x38 };

void pin_open(void)
{
    REGISTER(BOARD_PIN + OUTPUT_ON) = 1u << BOARD_PIN_NUMBER;
    rp2350_route(BOARD_PIN_NUMBER, BY_SIO);
}

void pin_write(uint32_t level)
{
    REGISTER(BOARD_PIN + (level ? HIGH : LOW)) = 1u << BOARD_PIN_NUMBER;
}
