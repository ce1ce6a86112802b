/* libFuzzer: any bytes at all to a whole device, in pieces, with time passing. The first byte of each piece says how
 * many bytes follow, the second how much time passes before. What must hold whatever comes: answers are whole frames,
 * the set-point stays in its range and within its rates, and modes and faults belong together. */
#include <math.h>
#include <stdlib.h>

#include "device.h"

#define CHANNELS 2u
#define PERIOD_US 5000u

static const lim_range RANGES[CHANNELS] = {{-0.5, 0.5, 2.0, 20.0, 400.0, 10.0}, {-1.0, 1.0, 4.0, 40.0, 800.0, 40.0}};
static const fw_config CONFIG = {0x06E25C48u, 100000u, PERIOD_US, CHANNELS, RANGES};

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

static void require_whole_answers(const uint8_t *answer, size_t size) {
    el_decoder decoder;
    el_message message;
    el_start(&decoder);
    for (size_t i = 0u; i < size; i++) {
        if (el_take(&decoder, answer[i], &message)) {
            require((message.kind == EL_STATE) || (message.kind == EL_HELLO_ACK));
        }
    }
    require((decoder.length == 0u) && (decoder.counts.bad_crc == 0u) && (decoder.counts.bad_message == 0u));
}

static void tick(fw_device *device, uint32_t now_us, float last[CHANNELS]) {
    float setpoint[EL_MAX_CHANNELS];
    const bool drive = fw_tick(device, now_us, 1u, 0u, setpoint);
    for (size_t i = 0u; i < CHANNELS; i++) {
        require((setpoint[i] >= (float)RANGES[i].low) && (setpoint[i] <= (float)RANGES[i].high));
        const double speed = fabs((double)setpoint[i] - (double)last[i]) / (PERIOD_US / 1e6);
        require(speed <= RANGES[i].max_velocity);
        last[i] = setpoint[i];
    }
    require(drive || lim_resting(&device->motion));
    require(device->mode <= (uint8_t)EL_STOPPED);
    require((device->mode != (uint8_t)EL_ARMED) || (device->faults == 0u));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fw_device device;
    static const fw_reading reading;
    const float position[CHANNELS] = {0.0f, 0.0f};
    float last[CHANNELS] = {0.0f, 0.0f};
    uint8_t answer[2u * EL_MAX_FRAME];
    uint32_t now_us = 0xFFFF0000u; /* wraps early */
    require(fw_start(&device, &CONFIG, position));
    size_t at = 0u;
    while ((at + 2u) <= size) {
        const size_t left = size - at - 2u;
        const size_t length = (data[at] < left) ? data[at] : left;
        now_us += (uint32_t)data[at + 1u] * 500u;
        require_whole_answers(answer, fw_feed(&device, &data[at + 2u], length, now_us, &reading, answer, sizeof answer));
        tick(&device, now_us, last);
        at += 2u + length;
    }
    return 0;
}
