/* Where a board is emulated: what its motors would do. Each period the position goes half of the way that is left. */
#ifndef PLANT_H
#define PLANT_H

#include <stdbool.h>
#include <stddef.h>

void plant_start(const float *position, size_t channels);
void plant_step(const float *setpoint, size_t channels, bool drive);
void plant_read(float *position, float *effort, size_t channels);

#endif
