/* What a board must provide: these five functions and a main() that calls fw_loop_start() and then fw_loop_spin() for ever. None of them may wait longer than
 * its text says. docs/firmware.md shows one for a real board.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Microseconds since anything, modulo 2^32; never goes back, never stops. */
uint32_t board_now_us(void);

/* What has arrived on the line, at most `room` bytes; 0 when nothing has. May sleep up to 1 ms for the first byte. */
size_t board_uart_read(uint8_t *data, size_t room);

/* Hand over a whole answer, at most 211 bytes, without waiting longer than they take on the line; bytes taken. */
size_t board_uart_write(const uint8_t *data, size_t length);

/* Every period: the actuator follows `setpoint` (n, channel units) when `drive`; else the board's own rest, which is
 * torque off or a brake. */
void board_actuate(const float *setpoint, size_t channels, bool drive);

/* Newest measurement: position (n, channel units) and effort (n, N m or N, NaN where none is measured). Returns fault
 * bits 0xFF00 that hold now (an open enable input, over-current, a lost encoder): any of them latches a stop. */
uint16_t board_sense(float *position, float *effort, size_t channels);

#endif
