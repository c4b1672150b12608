/* STM32L4 and L4+: HSI16 through the PLL, up to 80 or 120 MHz. */
#include "chip.h"
#include "stm32.h"

#define PWR 0x40007000u
#define RCC 0x40021000u
#define FLASH_ACR 0x40022000u
#define GPIO 0x48000000u

enum { PWR_CR2 = 0x04, PWR_CR5 = 0x80, IO2_VALID = 1 << 9, RANGE_1_NORMAL = 1 << 8 };
enum { RCC_CR = 0x00, HSI16_ON = 1 << 8, HSI16_READY = 1 << 10 };
enum { PLL_ON = 1 << 24, PLL_READY = 1 << 25 };
enum { RCC_CFGR = 0x08, SYSTEM = 3, SYSTEM_IS = 3 << 2, AHB = 15 << 4, AHB_HALF = 8 << 4 };
enum { RCC_PLLCFGR = 0x0C, FROM_HSI16 = 2, R_ON = 1 << 24 };
enum { RCC_AHB2ENR = 0x4C, RCC_APB1ENR1 = 0x58, PWR_CLOCK = 1 << 28 };
enum { WAIT_STATES = 15, PORT_G = 6 };
enum { NORMAL_HZ = 80000000 };

/* 16 MHz / 4 x N / 2; the PLL takes 4 MHz, as ST's own set-up of these boards gives it. */
enum { M = 4, N = BOARD_CLOCK_HZ / 2000000 };

static void run_by_pll(void)
{
    REGISTER(RCC + RCC_CR) |= HSI16_ON;
    register_wait(RCC + RCC_CR, HSI16_READY, HSI16_READY);
    REGISTER(RCC + RCC_PLLCFGR) = FROM_HSI16 | (M - 1) << 4 | N << 8 | R_ON;
    REGISTER(RCC + RCC_CR) |= PLL_ON;
    register_wait(RCC + RCC_CR, PLL_READY, PLL_READY);
    /* Above 80 MHz the regulator is in boost mode, and the bus takes half the clock for a
     * microsecond, or it would be short of current. */
    register_set(RCC + RCC_CFGR, AHB, AHB_HALF);
    if (BOARD_CLOCK_HZ > NORMAL_HZ)
        REGISTER(PWR + PWR_CR5) &= ~(uint32_t)RANGE_1_NORMAL;
    /* An L4 needs 4 at 80 MHz, an L4+ 5 at 120. Its caches are on after reset. */
    const uint32_t wait_states = BOARD_CLOCK_HZ > NORMAL_HZ ? 5 : 4;
    register_set(FLASH_ACR, WAIT_STATES, wait_states);
    register_wait(FLASH_ACR, WAIT_STATES, wait_states);
    register_set(RCC + RCC_CFGR, SYSTEM, SYSTEM);
    register_wait(RCC + RCC_CFGR, SYSTEM_IS, SYSTEM_IS);
    for (volatile uint32_t i = 0; i < 100; i++) {
    }
    register_set(RCC + RCC_CFGR, AHB, 0);
}

void chip_open(void)
{
    REGISTER(RCC + RCC_APB1ENR1) |= PWR_CLOCK;
    (void)REGISTER(RCC + RCC_APB1ENR1);
    run_by_pll();
    /* Port G has a supply of its own, and is cut off until somebody says that it is there. */
    if (stm32_port(BOARD_UART_TX) == PORT_G)
        REGISTER(PWR + PWR_CR2) |= IO2_VALID;
    stm32_open_ports(RCC + RCC_AHB2ENR, GPIO);
    stm32_open_uart(RCC + RCC_APB1ENR1);
    stm32_route(GPIO, BOARD_UART_TX);
    stm32_route(GPIO, BOARD_UART_RX);
}
