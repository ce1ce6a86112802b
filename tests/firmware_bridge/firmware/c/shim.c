/* The library as flat functions for ctypes: no struct crosses the border. */
#include <stdint.h>
#include <string.h>

#include "device.h"

static fw_device device;
static fw_config config;
static lim_range ranges[EL_MAX_CHANNELS];

static lim_range range_of(const double row[6]) {
    const lim_range range = {row[0], row[1], row[2], row[3], row[4], row[5]};
    return range;
}

int shim_start(uint32_t schema, uint32_t watchdog_us, uint32_t period_us, uint32_t channels, const double *rows,
               const float *position) {
    for (uint32_t i = 0u; (i < channels) && (i < EL_MAX_CHANNELS); i++) {
        ranges[i] = range_of(&rows[6u * i]);
    }
    const fw_config made = {schema, watchdog_us, period_us, channels, ranges};
    config = made;
    return fw_start(&device, &config, position) ? 1 : 0;
}

uint32_t shim_feed(const uint8_t *data, uint32_t length, uint32_t now_us, const float *position, const float *effort,
                   uint32_t board_faults, uint8_t *out, uint32_t room) {
    fw_reading reading;
    (void)memset(&reading, 0, sizeof reading);
    (void)memcpy(reading.position, position, config.channels * sizeof(float));
    (void)memcpy(reading.effort, effort, config.channels * sizeof(float));
    reading.faults = (uint16_t)board_faults;
    return (uint32_t)fw_feed(&device, data, length, now_us, &reading, out, room);
}

int shim_tick(uint32_t now_us, uint32_t periods, uint32_t board_faults, float *setpoint) {
    return fw_tick(&device, now_us, periods, (uint16_t)board_faults, setpoint) ? 1 : 0;
}

/* mode, faults, accepted, trips, lost, refused 1..8, frames, stuffing, crc, message, short, long */
void shim_counts(uint32_t out[19]) {
    const el_counts *line = &device.decoder.counts;
    const uint32_t own[5] = {device.mode, device.faults, device.accepted, device.watchdog_trips, device.lost_replies};
    const uint32_t thrown[6] = {line->frames,      line->bad_stuffing, line->bad_crc,
                                line->bad_message, line->too_short,    line->too_long};
    (void)memcpy(out, own, sizeof own);
    (void)memcpy(&out[5], &device.refused[1], 8u * sizeof(uint32_t));
    (void)memcpy(&out[13], thrown, sizeof thrown);
}

/* rows: n x 6 limits; steps: n; out: n x 9 axes (low .. step, reach, nimble). */
void shim_axes(uint32_t count, const double *rows, const double *steps, double *out) {
    for (uint32_t i = 0u; i < count; i++) {
        const lim_range range = range_of(&rows[6u * i]);
        const lim_axis axis = lim_axis_of(&range, steps[i]);
        const double row[9] = {axis.low,          axis.high, axis.velocity, axis.acceleration,       axis.jerk,
                               axis.deceleration, axis.step, axis.reach,    axis.nimble ? 1.0 : 0.0};
        (void)memcpy(&out[9u * i], row, sizeof row);
    }
}

/* cases: n x 7 (set-point, velocity, acceleration; wanted set-point, velocity, acceleration; h); out: n x 4 (row, bits). */
void shim_channels(uint32_t count, const double *rows, const double *steps, const double *cases, int slow, double *out) {
    for (uint32_t i = 0u; i < count; i++) {
        const double *c = &cases[7u * i];
        const lim_range range = range_of(&rows[6u * i]);
        const lim_axis axis = lim_axis_of(&range, steps[i]);
        const lim_row now = {c[0], c[1], c[2]};
        const lim_row wanted = {c[3], c[4], c[5]};
        lim_row next;
        const unsigned bits = (slow != 0) ? lim_slow_channel(&axis, now, c[6], &next)
                                          : lim_track_channel(&axis, now, wanted, c[6], &next);
        const double row[4] = {next.setpoint, next.velocity, next.acceleration, (double)bits};
        (void)memcpy(&out[4u * i], row, sizeof row);
    }
}

/* A drive of `count` steps over all channels: wanted n x channels, h n (negative: slow_down); out n x channels x 3. */
void shim_drive(uint32_t count, uint32_t channels, const double *rows, double step_s, const double *start,
                const double *wanted, const double *h, double *out, uint32_t *bits) {
    lim_axis axes[LIM_MAX_CHANNELS];
    lim_motion motion;
    for (uint32_t i = 0u; i < channels; i++) {
        const lim_range range = range_of(&rows[6u * i]);
        axes[i] = lim_axis_of(&range, step_s);
    }
    lim_rest_at(&motion, start, channels);
    for (uint32_t i = 0u; i < count; i++) {
        bits[i] = (h[i] < 0.0) ? lim_slow_down(axes, &motion, -h[i])
                               : lim_track(axes, &motion, &wanted[i * channels], h[i]);
        for (uint32_t k = 0u; k < channels; k++) {
            (void)memcpy(&out[((i * channels) + k) * 3u], &motion.row[k], sizeof(lim_row));
        }
    }
}

uint32_t shim_half(float value) {
    return el_half(value);
}
