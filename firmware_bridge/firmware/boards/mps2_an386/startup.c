/* From reset to main(): vector table, FPU, .data and .bss. */
#include <stddef.h>
#include <stdint.h>

#define CPACR (*(volatile uint32_t *)0xE000ED88u) /* coprocessor access, Arm DDI 0403 */
#define FPU_FULL_ACCESS (0xFu << 20)

extern uint32_t stack_top[];
extern uint32_t data_source[];
extern uint32_t data_start[];
extern uint32_t data_end[];
extern uint32_t bss_start[];
extern uint32_t bss_end[];

void reset_handler(void);
void fault_handler(void);
void uart0_rx_handler(void);
void systick_handler(void);
int main(void);

typedef void (*handler)(void);

/* A fault ends in silence: the host's and the actuators' watchdogs run out. A real board lets its own one reset it. */
void fault_handler(void) {
    for (;;) {
    }
}

void reset_handler(void) {
    const uint32_t *from = data_source;
    for (uint32_t *to = data_start; to < data_end; to++) {
        *to = *from;
        from++;
    }
    for (uint32_t *to = bss_start; to < bss_end; to++) {
        *to = 0u;
    }
    CPACR |= FPU_FULL_ACCESS;
    __asm volatile("dsb\n isb" ::: "memory");
    (void)main();
    fault_handler();
}

typedef struct {
    uint32_t *stack;
    handler core[15];
    handler external[32];
} vector_table;

extern const vector_table vectors;
const vector_table vectors __attribute__((section(".vectors"), used)) = {
    .stack = stack_top,
    .core = {reset_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, NULL, NULL, NULL,
             NULL, fault_handler, fault_handler, NULL, fault_handler, systick_handler},
    .external = {uart0_rx_handler},
};
