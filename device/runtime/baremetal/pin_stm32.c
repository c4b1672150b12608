/* A pin of a GPIO port of ST's L4 and H7. */
#include "stm32.h"
#include "window.h"

void pin_open(void)
{
    const uint32_t at = 2 * BOARD_PIN_NUMBER, mode = STM32_OUTPUT;
    register_set(BOARD_PIN + STM32_MODE, 3u << at, mode << at);
}

/* The lower half of the register sets pins, the upper half clears them. */
void pin_write(uint32_t level)
{
    REGISTER(BOARD_PIN + STM32_SET) = 1u << (BOARD_PIN_NUMBER + (level ? 0 : 16));
}
