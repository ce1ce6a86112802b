#include "plant.h"

#include "edgelink.h"

#define SHARE 0.5f       /* of the way to the set-point, each period */
#define STIFFNESS 100.0f /* N/m, N m/rad: the spring that pulls it there is the effort it measures */

static float at[EL_MAX_CHANNELS];
static float pull[EL_MAX_CHANNELS];

void plant_start(const float *position, size_t channels) {
    for (size_t i = 0u; i < channels; i++) {
        at[i] = position[i];
        pull[i] = 0.0f;
    }
}

void plant_step(const float *setpoint, size_t channels, bool drive) {
    for (size_t i = 0u; i < channels; i++) {
        at[i] += drive ? (SHARE * (setpoint[i] - at[i])) : 0.0f;
        pull[i] = drive ? (STIFFNESS * (setpoint[i] - at[i])) : 0.0f;
    }
}

void plant_read(float *position, float *effort, size_t channels) {
    for (size_t i = 0u; i < channels; i++) {
        position[i] = at[i];
        effort[i] = pull[i];
    }
}
