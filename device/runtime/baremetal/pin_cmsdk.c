/* A pin of a GPIO block of Arm's CMSDK, which the MPS2 and MPS3 boards have. */
#include "window.h"

#include "board.h"

enum { PIN = 1 << BOARD_PIN_NUMBER };

typedef struct {
    volatile uint32_t data, output, reserved[2], output_on;
} registers;

#define GPIO ((registers *)BOARD_PIN)

void pin_open(void)
{
    GPIO->output_on = PIN;
}

void pin_write(uint32_t level)
{
    GPIO->output = level ? PIN : 0;
}
