/* A pin of a GPIO port of nRF52. */
#include "board.h"
#include "registers.h"
#include "window.h"

enum { HIGH = 0x508, LOW = 0x50C, OUTPUT_ON = 0x518 };

void pin_open(void)
{
    REGISTER(BOARD_PIN + OUTPUT_ON) = 1u << BOARD_PIN_NUMBER;
}

void pin_write(uint32_t level)
{
    REGISTER(BOARD_PIN + (level ? HIGH : LOW)) = 1u << BOARD_PIN_NUMBER;
}
