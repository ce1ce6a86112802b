/* Hot paths of the firmware, called in a loop. Each returns something that depends on its work. */
#include <string.h>

#include "edgelink.h"
#include "limiter.h"

#define CHANNELS 7u
#define STEP_S 0.001
#define ASIDE 0.05

/* `steps` of the limiter towards a set-point aside of the arm, 2 rad/s, 10 rad/s^2, 100 rad/s^3. */
unsigned firmware_limiter(unsigned steps) {
    const lim_range range = {-2.9, 2.9, 2.0, 10.0, 100.0, 5.0};
    lim_axis axes[CHANNELS];
    double wanted[CHANNELS];
    double start[CHANNELS];
    lim_motion motion;
    unsigned bits = 0u;
    for (unsigned i = 0u; i < CHANNELS; i++) {
        axes[i] = lim_axis_of(&range, STEP_S);
        start[i] = 0.0;
        wanted[i] = ASIDE;
    }
    lim_rest_at(&motion, start, CHANNELS);
    for (unsigned step = 0u; step < steps; step++) {
        bits |= lim_track(axes, &motion, wanted, STEP_S);
    }
    return bits;
}

/* Messages in `frame`, taken `times` times byte by byte. */
unsigned firmware_decode(const uint8_t *frame, unsigned length, unsigned times) {
    el_decoder decoder;
    el_message message;
    unsigned found = 0u;
    el_start(&decoder);
    for (unsigned time = 0u; time < times; time++) {
        for (unsigned i = 0u; i < length; i++) {
            found += el_take(&decoder, frame[i], &message) ? 1u : 0u;
        }
    }
    return found;
}

/* Bytes of `times` states of 7 channels. */
unsigned firmware_encode(unsigned times) {
    uint8_t out[EL_MAX_FRAME];
    float position[CHANNELS];
    float effort[CHANNELS];
    unsigned bytes = 0u;
    for (unsigned i = 0u; i < CHANNELS; i++) {
        position[i] = 0.1f * (float)i;
        effort[i] = 0.5f;
    }
    for (unsigned time = 0u; time < times; time++) {
        const el_state state = {(uint16_t)time, time, 1u, 0u, 0u, 0u, CHANNELS, position, effort};
        bytes += (unsigned)el_encode_state(&state, out);
    }
    return bytes;
}
