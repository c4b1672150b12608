/* Arm's PL011, which RP2350 has two of. */
#include "board.h"
#include "line.h"

enum { RX_EMPTY = 1 << 4, TX_FULL = 1 << 5, FIFOS_ON = 1 << 4, EIGHT_BITS = 3 << 5 };
enum { ON = 1 << 0, TX_ON = 1 << 8, RX_ON = 1 << 9 };
/* In 64ths of sixteen clocks. */
enum { DIVIDER = ((uint64_t)BOARD_UART_CLOCK_HZ * 4 + BAUD / 2) / BAUD };

typedef struct {
    volatile uint32_t data, errors, reserved[4], state, reserved2[2], whole, parts, format, control;
} registers;

#define UART ((registers *)BOARD_UART)

/* Writing the format is what makes the divider count. */
void line_open(void)
{
    UART->control = 0;
    UART->whole = DIVIDER / 64;
    UART->parts = DIVIDER % 64;
    UART->format = EIGHT_BITS | FIFOS_ON;
    UART->control = ON | TX_ON | RX_ON;
}

uint8_t line_read(void)
{
    while (UART->state & RX_EMPTY) {
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
