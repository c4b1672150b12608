/* What ST's L4 and H7 have in common: ports of 16 pins, a kilobyte of addresses for each of them and
 * for each UART, and a bit that turns its clock on. Pins are numbered through, PA0 is 0, PB0 16. */
#ifndef HEADGATE_STM32_H
#define HEADGATE_STM32_H

#include "board.h"
#include "registers.h"

enum { STM32_BLOCK = 0x400, STM32_MODE = 0x00, STM32_PULL = 0x0C, STM32_SET = 0x18 };
enum { STM32_FUNCTION = 0x20 };
enum { STM32_OUTPUT = 1, STM32_ALTERNATE = 2, STM32_PULL_UP = 1 };

static inline uint32_t stm32_port(uint32_t pin)
{
    return pin / 16;
}

/* Clocks of the ports that the UART's pins and the meter's pin are in, by the register `enable`.
 * Reading it again is the pause that a block needs before it is used. */
static inline void stm32_open_ports(uint32_t enable, uint32_t gpio)
{
    const uint32_t meter = (BOARD_PIN - gpio) / STM32_BLOCK;
    REGISTER(enable) |=
        1u << stm32_port(BOARD_UART_TX) | 1u << stm32_port(BOARD_UART_RX) | 1u << meter;
    (void)REGISTER(enable);
}

/* The clock of the UART. The registers for APB1 and APB2 lie one behind the other from `enable` on,
 * a bit for each block and a register for each 32, as the blocks lie from 0x40000000 on. */
static inline void stm32_open_uart(uint32_t enable)
{
    const uint32_t block = (BOARD_UART - 0x40000000u) / STM32_BLOCK;
    REGISTER(enable + block / 32 * 4) |= 1u << block % 32;
    (void)REGISTER(enable + block / 32 * 4);
}

/* Pulled up, a line that nobody drives is idle. */
static inline void stm32_route(uint32_t gpio, uint32_t pin)
{
    const uint32_t port = gpio + stm32_port(pin) * STM32_BLOCK, at = pin % 16;
    const uint32_t function = BOARD_UART_FUNCTION, up = STM32_PULL_UP, mode = STM32_ALTERNATE;
    register_set(port + STM32_FUNCTION + at / 8 * 4, 15u << at % 8 * 4, function << at % 8 * 4);
    register_set(port + STM32_PULL, 3u << 2 * at, up << 2 * at);
    register_set(port + STM32_MODE, 3u << 2 * at, mode << 2 * at);
}

#endif
