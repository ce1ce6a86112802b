/* The loop of every board: serve the line, step the limiter and the actuator once per period. */
#ifndef RUN_H
#define RUN_H

#include "device.h"

typedef struct {
    fw_device device;
    fw_reading reading;
    uint32_t next_us;
    uint32_t skipped; /* whole periods, after an overrun; the phase is kept */
} fw_loop;

/* False: the configuration is unsound, do not spin. */
bool fw_loop_start(fw_loop *loop, const fw_config *config);

/* Once round: what has arrived, its answers, and a period when one is due. Never ends on its own account. */
void fw_loop_spin(fw_loop *loop);

#endif
