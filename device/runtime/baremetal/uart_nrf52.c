/* The UART of nRF52 without DMA, which takes any two pins. */
#include "board.h"
#include "line.h"
#include "registers.h"

enum { START_RX = 0x000, START_TX = 0x008, RX_READY = 0x108, TX_READY = 0x11C };
enum { ENABLE = 0x500, ON = 4, PIN_TX = 0x50C, PIN_RX = 0x514, RX = 0x518, TX = 0x51C };
enum { SPEED = 0x524, AT_115200 = 0x01D7E000 };
enum { OUTPUT = 1 << 0, INPUT_OFF = 1 << 1, PULL_UP = 3 << 2 };

#define UART(offset) REGISTER(BOARD_UART + (offset))
/* Pins are numbered through, P1.00 is 32. */
#define PORT(pin) (0x50000000u + (pin) / 32 * 0x300)
#define SET(pin) REGISTER(PORT(pin) + 0x508)
#define SETTINGS(pin) REGISTER(PORT(pin) + 0x700 + (pin) % 32 * 4)

_Static_assert(BAUD == 115200, "the speed is a constant of the chip's");

void line_open(void)
{
    SET(BOARD_UART_TX) = 1u << BOARD_UART_TX % 32;
    SETTINGS(BOARD_UART_TX) = OUTPUT | INPUT_OFF;
    SETTINGS(BOARD_UART_RX) = PULL_UP;
    UART(PIN_TX) = BOARD_UART_TX;
    UART(PIN_RX) = BOARD_UART_RX;
    UART(SPEED) = AT_115200;
    UART(ENABLE) = ON;
    UART(START_TX) = 1;
    UART(START_RX) = 1;
}

/* The event is cleared first: reading lets the next byte in, with an event of its own. */
uint8_t line_read(void)
{
    while (!UART(RX_READY)) {
    }
    UART(RX_READY) = 0;
    return (uint8_t)UART(RX);
}

void line_write(const uint8_t *bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        UART(TX_READY) = 0;
        UART(TX) = bytes[i];
        while (!UART(TX_READY)) {
        }
    }
}
