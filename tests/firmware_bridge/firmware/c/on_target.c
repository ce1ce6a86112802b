/* The limiter's steps on the Cortex-M4 itself, where double is computed by libgcc: cases.h holds what Python says.
 * Ends QEMU by semihosting (SYS_EXIT_EXTENDED) with 0, or with 1 and the number of the first case that differs. */
#include <stdint.h>
#include <string.h>

#include "cases.h"
#include "limiter.h"

#define SYS_WRITE0 0x04u
#define SYS_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT 0x20026u

void uart0_rx_handler(void);
void systick_handler(void);
int main(void);

void uart0_rx_handler(void) {
}

void systick_handler(void) {
}

static void semihost(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static void say(uint32_t number) {
    char text[12] = "           ";
    size_t at = sizeof text - 2u;
    text[sizeof text - 1u] = '\0';
    for (uint32_t rest = number; (rest > 0u) || (at == (sizeof text - 2u)); rest /= 10u) {
        text[at--] = (char)('0' + (char)(rest % 10u));
    }
    semihost(SYS_WRITE0, text);
}

int main(void) {
    uint32_t wrong = 0u;
    for (uint32_t i = 0u; i < CASES; i++) {
        const double *c = CASE[i];
        const lim_range range = {c[0], c[1], c[2], c[3], c[4], c[5]};
        const lim_axis axis = lim_axis_of(&range, c[6]);
        const lim_row now = {c[7], c[8], c[9]};
        const lim_row wanted = {c[10], c[11], c[12]};
        lim_row next;
        const unsigned bits = (c[14] != 0.0) ? lim_slow_channel(&axis, now, c[13], &next)
                                             : lim_track_channel(&axis, now, wanted, c[13], &next);
        if ((memcmp(&next, &c[15], sizeof next) != 0) || ((double)bits != c[18])) {
            wrong = (wrong == 0u) ? (i + 1u) : wrong;
        }
    }
    say(wrong);
    const uint32_t end[2] = {APPLICATION_EXIT, (wrong == 0u) ? 0u : 1u};
    semihost(SYS_EXIT_EXTENDED, end);
    return 0;
}
