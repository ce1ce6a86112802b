/* Arm's MPS2 board with a Cortex-M4 (AN386), as qemu-system-arm emulates it: the line is UART0.
 *
 * Registers: Arm DAI 0386 (memory map, FPGAIO), DDI 0479 (CMSDK APB UART), DDI 0403 (SysTick, NVIC, SCB).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board.h"
#include "config.h"
#include "plant.h"
#include "run.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_INTSTATUS REGISTER(0x4000400Cu)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define UART_TX_FULL 1u
#define UART_RX_FULL 2u
#define UART_TX_RX_AND_RX_INTERRUPT 0x0Bu
#define UART_RX_INTERRUPT 2u
#define FPGAIO_COUNTER REGISTER(0x40028018u)
#define FPGAIO_PRESCALE REGISTER(0x4002801Cu)
#define SYSTICK_CTRL REGISTER(0xE000E010u)
#define SYSTICK_LOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)
#define NVIC_ENABLE_0 REGISTER(0xE000E100u)
#define UART0_RX_IRQ 0u
#define CLOCK_HZ 25000000u
#define BAUD 921600u

#ifndef CLOCK_START_US
#define CLOCK_START_US 0u
#endif

#define RING 1024u /* bytes, a power of two: more than a host sends in a millisecond at 4 Mbaud */

static uint8_t ring[RING];
static volatile uint32_t ring_in; /* counts for ever, the interrupt's */
static uint32_t ring_out;         /* the loop's */
static fw_loop loop;

void uart0_rx_handler(void);
void systick_handler(void);
int main(void);

/* A full ring loses the byte: its frame fails the CRC and is counted. */
void uart0_rx_handler(void) {
    UART_INTSTATUS = UART_RX_INTERRUPT; /* first: a byte that arrives from here on asks again */
    while ((UART_STATE & UART_RX_FULL) != 0u) {
        const uint8_t byte = (uint8_t)(UART_DATA & 0xFFu);
        if ((ring_in - ring_out) < RING) {
            ring[ring_in % RING] = byte;
            ring_in++;
        }
    }
}

/* Wakes the loop once a millisecond: that is all. */
void systick_handler(void) {
}

uint32_t board_now_us(void) {
    return FPGAIO_COUNTER;
}

size_t board_uart_read(uint8_t *data, size_t room) {
    size_t count = 0u;
    __asm volatile("cpsid i" ::: "memory"); /* or a byte could arrive between the look and the sleep */
    if (ring_in == ring_out) {
        __asm volatile("dsb\n wfi" ::: "memory"); /* a pending interrupt ends it, masked or not */
    }
    __asm volatile("cpsie i\n isb" ::: "memory");
    while ((ring_out != ring_in) && (count < room)) {
        data[count] = ring[ring_out % RING];
        ring_out++;
        count++;
    }
    return count;
}

size_t board_uart_write(const uint8_t *data, size_t length) {
    for (size_t i = 0u; i < length; i++) {
        while ((UART_STATE & UART_TX_FULL) != 0u) {
        }
        UART_DATA = data[i];
    }
    return length;
}

void board_actuate(const float *setpoint, size_t channels, bool drive) {
    plant_step(setpoint, channels, drive);
}

uint16_t board_sense(float *position, float *effort, size_t channels) {
    plant_read(position, effort, channels);
    return 0u;
}

int main(void) {
    FPGAIO_PRESCALE = (CLOCK_HZ / 1000000u) - 1u; /* the counter counts microseconds */
    FPGAIO_COUNTER = CLOCK_START_US;
    UART_BAUDDIV = CLOCK_HZ / BAUD;
    UART_CTRL = UART_TX_RX_AND_RX_INTERRUPT;
    NVIC_ENABLE_0 = 1u << UART0_RX_IRQ;
    SYSTICK_LOAD = (CLOCK_HZ / 1000u) - 1u;
    SYSTICK_VALUE = 0u;
    SYSTICK_CTRL = 7u; /* on, with interrupt, from the core's clock */
    plant_start(CONFIG_START, CONFIG_CHANNELS);
    const bool sound = fw_loop_start(&loop, &CONFIG);
    while (sound) { /* an unsound configuration stays silent: the host says "no edgelink device answers" */
        fw_loop_spin(&loop);
    }
    return 1;
}
