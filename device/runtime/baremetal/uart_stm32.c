/* The UARTs of ST's L4 and H7, LPUART among them, whose divider counts parts of a clock. */
#include "board.h"
#include "line.h"

enum { ON = 1 << 0, RX_ON = 1 << 2, TX_ON = 1 << 3, OVERRUN_OFF = 1 << 12 };
enum { RX_FULL = 1 << 5, TX_EMPTY = 1 << 7, TX_IS_ON = 1 << 21, RX_IS_ON = 1 << 22 };
enum { DIVIDER = ((uint64_t)BOARD_UART_CLOCK_HZ * BOARD_UART_STEPS + BAUD / 2) / BAUD };

typedef struct {
    volatile uint32_t control, control2, control3, divider, reserved[3], state, clear, rx, tx;
} registers;

#define UART ((registers *)BOARD_UART)

void line_open(void)
{
    UART->control = 0;
    /* A byte that comes too late to be read is lost, which the protocol expects, and no more. */
    UART->control3 = OVERRUN_OFF;
    UART->divider = DIVIDER;
    UART->control = ON | RX_ON | TX_ON;
    while ((UART->state & (TX_IS_ON | RX_IS_ON)) != (TX_IS_ON | RX_IS_ON)) {
    }
}

uint8_t line_read(void)
{
    while (!(UART->state & RX_FULL)) {
    }
    return (uint8_t)UART->rx;
}

void line_write(const uint8_t *bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        while (!(UART->state & TX_EMPTY)) {
        }
        UART->tx = bytes[i];
    }
}
