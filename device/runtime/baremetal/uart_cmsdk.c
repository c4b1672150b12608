/* The UART of Arm's CMSDK, which the MPS2 and MPS3 boards have. */
#include "line.h"

#include "board.h"

enum { TX_FULL = 1, RX_FULL = 2, TX_ON = 1, RX_ON = 2 };

typedef struct {
    volatile uint32_t data, state, control, interrupts, divider;
} registers;

#define UART ((registers *)BOARD_UART)

void line_open(void)
{
    UART->divider = BOARD_UART_CLOCK_HZ / BAUD;
    UART->control = TX_ON | RX_ON;
}

uint8_t line_read(void)
{
    while (!(UART->state & RX_FULL)) {
    }
    return (uint8_t)UART->data;
}

void line_write(const uint8_t *bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        while (UART->state & TX_FULL) {
        }
        UART->data = bytes[i];
    }
}
