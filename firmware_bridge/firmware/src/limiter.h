/* Limits on absolute set-points: range, velocity, acceleration, jerk; per channel, in double.
 *
 * A port, operation by operation, of edgevla/control/braking.py, channel.py and the per-channel part of limiter.py:
 * the same bits, which tests check. Compile with -ffp-contract=off and never with -ffast-math. What each step means and
 * why is written there. Limits of a tool in space (Cartesian) stay on the host.
 */
#ifndef LIMITER_H
#define LIMITER_H

#include <stdbool.h>
#include <stddef.h>

#define LIM_MAX_CHANNELS 32u

/* What the limiter changed: the values of `Limited`. */
#define LIM_ACCELERATION 1u
#define LIM_VELOCITY 2u
#define LIM_RANGE 4u
#define LIM_NOT_FINITE 8u
#define LIM_JERK 16u

/* Limits of one channel as a profile gives them: its unit and seconds; low and high are float32 numbers. */
typedef struct {
    double low;
    double high;
    double max_velocity;
    double max_acceleration;
    double max_jerk;
    double stop_deceleration;
} lim_range;

typedef struct {
    double low;
    double high;
    double velocity; /* lowered by what float32 rounding may add */
    double acceleration;
    double jerk;
    double deceleration; /* of a stop that nothing hurries */
    double step;         /* s, the shortest time between two commands */
    double reach;        /* nearer to an end than this (and one step), braking must be looked at */
    bool nimble;         /* may stop within one step from any motion */
} lim_axis;

typedef struct {
    double setpoint;
    double velocity;
    double acceleration;
} lim_row;

/* The last command, its rates, and what was asked for last. */
typedef struct {
    size_t channels;
    bool has_wanted; /* false after a stop */
    lim_row row[LIM_MAX_CHANNELS];
    double wanted[LIM_MAX_CHANNELS];
    double wanted_velocity[LIM_MAX_CHANNELS];
} lim_motion;

lim_axis lim_axis_of(const lim_range *range, double step_s);

/* One channel's step: towards wanted (set-point, velocity, acceleration), or of the stop. Returns LIM_ bits. */
unsigned lim_track_channel(const lim_axis *axis, lim_row now, lim_row wanted, double h, lim_row *next);
unsigned lim_slow_channel(const lim_axis *axis, lim_row now, double h, lim_row *next);

void lim_rest_at(lim_motion *motion, const double *setpoint, size_t channels);
bool lim_resting(const lim_motion *motion);

/* All channels: towards `wanted`, or of the stop, `elapsed_s` (>= step) after the last. Returns LIM_ bits. */
unsigned lim_track(const lim_axis *axes, lim_motion *motion, const double *wanted, double elapsed_s);
unsigned lim_slow_down(const lim_axis *axes, lim_motion *motion, double elapsed_s);

#endif
