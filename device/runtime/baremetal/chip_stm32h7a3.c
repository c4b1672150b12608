/* STM32H7A3 with its own step-down converter (-Q): HSI through PLL1, up to 280 MHz, and caches. */
#include "chip.h"
#include "stm32.h"

#define FLASH_ACR 0x52002000u
#define GPIO 0x58020000u
#define RCC 0x58024400u
#define PWR 0x58024800u
#define CCSIDR 0xE000ED80u
#define CSSELR 0xE000ED84u
#define CCR 0xE000ED14u
#define ICIALLU 0xE000EF50u
#define DCISW 0xE000EF60u

enum { PWR_CSR1 = 0x04, ACTIVE_READY = 1 << 13 };
enum { PWR_CR3 = 0x0C, SUPPLY = 63, BY_CONVERTER = 1 << 2 };
enum { PWR_SRDCR = 0x18, VOLTAGE_READY = 1 << 13, VOLTAGE = 3 << 14 };
enum { WAIT_STATES = 15, AT_280_MHZ = 6 };
enum { RCC_CR = 0x00, PLL1_ON = 1 << 24, PLL1_READY = 1 << 25 };
enum { RCC_CFGR = 0x10, SYSTEM = 7, BY_PLL1 = 3, SYSTEM_IS = 7 << 3, IS_PLL1 = 3 << 3 };
enum { RCC_CDCFGR1 = 0x18, RCC_CDCFGR2 = 0x1C, RCC_SRDCFGR = 0x20, APB = 7, HALF = 4 };
enum { RCC_PLLCKSELR = 0x28, RCC_PLLCFGR = 0x2C, RCC_PLL1DIVR = 0x30 };
enum { RCC_AHB4ENR = 0x140, RCC_APB1LENR = 0x148 };
enum { FROM_2_TO_4_MHZ = 1 << 2, PLL1_INPUT = 15, P_ON = 1 << 16 };
enum { INSTRUCTION_CACHE = 1 << 17, DATA_CACHE = 1 << 16 };

/* 64 MHz / 32 x N / 2: 2 MHz for PLL1 and 560 MHz from it, as ST's own set-up of this board has. */
enum { M = 32, N = BOARD_CLOCK_HZ / 1000000, P = 2 };

/* What supplies the core is said once after power came, later writes do nothing. At 280 MHz it has
 * the highest of its voltages. */
static void power(void)
{
    register_set(PWR + PWR_CR3, SUPPLY, BY_CONVERTER);
    register_wait(PWR + PWR_CSR1, ACTIVE_READY, ACTIVE_READY);
    register_set(PWR + PWR_SRDCR, VOLTAGE, VOLTAGE);
    register_wait(PWR + PWR_SRDCR, VOLTAGE_READY, VOLTAGE_READY);
}

static void run_by_pll(void)
{
    register_set(FLASH_ACR, WAIT_STATES, AT_280_MHZ);
    register_wait(FLASH_ACR, WAIT_STATES, AT_280_MHZ);
    register_set(RCC + RCC_PLLCKSELR, 3 | 63 << 4, M << 4);
    register_set(RCC + RCC_PLLCFGR, PLL1_INPUT, FROM_2_TO_4_MHZ | P_ON);
    REGISTER(RCC + RCC_PLL1DIVR) = (N - 1) | (P - 1) << 9 | (P - 1) << 16 | (P - 1) << 24;
    REGISTER(RCC + RCC_CR) |= PLL1_ON;
    register_wait(RCC + RCC_CR, PLL1_READY, PLL1_READY);
    /* The peripherals' buses take 140 MHz at most. */
    register_set(RCC + RCC_CDCFGR1, APB << 4, HALF << 4);
    register_set(RCC + RCC_CDCFGR2, APB << 4 | APB << 8, HALF << 4 | HALF << 8);
    register_set(RCC + RCC_SRDCFGR, APB << 4, HALF << 4);
    register_set(RCC + RCC_CFGR, SYSTEM, BY_PLL1);
    register_wait(RCC + RCC_CFGR, SYSTEM_IS, IS_PLL1);
}

static void barrier(void)
{
    __asm volatile("dsb\n\tisb" ::: "memory");
}

/* As Armv7-M wants it: what is in a cache before it is on is nonsense, and is dropped. */
static void cache(void)
{
    REGISTER(ICIALLU) = 0;
    barrier();
    REGISTER(CCR) |= INSTRUCTION_CACHE;
    barrier();
    REGISTER(CSSELR) = 0;
    barrier();
    const uint32_t size = REGISTER(CCSIDR);
    const uint32_t sets = (size >> 13 & 0x7FFF) + 1, ways = (size >> 3 & 0x3FF) + 1;
    for (uint32_t set = 0; set < sets; set++)
        for (uint32_t way = 0; way < ways; way++)
            REGISTER(DCISW) = way << 30 | set << 5;
    barrier();
    REGISTER(CCR) |= DATA_CACHE;
    barrier();
}

void chip_open(void)
{
    power();
    run_by_pll();
    cache();
    stm32_open_ports(RCC + RCC_AHB4ENR, GPIO);
    stm32_open_uart(RCC + RCC_APB1LENR);
    stm32_route(GPIO, BOARD_UART_TX);
    stm32_route(GPIO, BOARD_UART_RX);
}
