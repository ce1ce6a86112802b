/* One arm controller as a pure state machine: bytes and a clock in, bytes and limited set-points out.
 *
 * Verdicts, modes and counts are those of firmware_bridge/edgelink/controller.py. On top of it every set-point that leaves
 * for the actuator goes through the limiter, once per period:
 *
 *   armed and commanded           towards the last accepted set-point, within the limits
 *   stopped, disarmed, re-armed   the stop: decelerate within the limits to rest, then hold there
 *
 * `held` is then where the set-point is, so a command accepted in the same period as a stop is not carried out.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include "edgelink.h"
#include "limiter.h"

#define FW_FAULT_WATCHDOG 1u
#define FW_FAULT_STOP 2u
#define FW_FAULT_BOARD 0xFF00u /* the board's own, as board_sense() gives them */
#define FW_MAX_AHEAD_US 1000000 /* us: an expiry further ahead is no honest command */
#define FW_LONGEST_WATCHDOG_US 65535000u /* what a HELLO_ACK can say in ms */

/* What config.h holds: written from an arm profile, checked by fw_start(). */
typedef struct {
    uint32_t schema;
    uint32_t watchdog_us;
    uint32_t period_us; /* of the limiter and the actuator: the host's servo period Ts */
    size_t channels;
    const lim_range *ranges; /* low and high are float32 numbers */
} fw_config;

/* What the board measured; position in the units of the set-points, effort NaN where there is none. */
typedef struct {
    float position[EL_MAX_CHANNELS];
    float effort[EL_MAX_CHANNELS];
    uint16_t faults; /* bits of FW_FAULT_BOARD that hold now: an enable input that is open, an over-current */
} fw_reading;

typedef struct {
    const fw_config *config;
    el_decoder decoder;
    lim_axis axes[EL_MAX_CHANNELS];
    lim_motion motion;
    float held[EL_MAX_CHANNELS];
    double period_s;
    uint32_t fed_us; /* last accepted command, or arming */
    uint32_t commands_since_arming;
    uint32_t accepted;
    uint32_t watchdog_trips;
    uint32_t lost_replies; /* the caller's buffer or the line had no room */
    uint32_t refused[EL_VERDICTS];
    uint16_t last_seq;
    uint16_t faults;
    uint8_t mode;
    bool greeted;
    bool driven; /* the actuator follows the set-point; false from power-on to the first command */
} fw_device;

/* Whether every number of it is one that the device can run with. */
bool fw_is_sound(const fw_config *config);

/* Disarmed, at rest at `position` clipped to the ranges. False, and nothing may run: the configuration is unsound. */
bool fw_start(fw_device *device, const fw_config *config, const float *position);

/* Take bytes from the host; returns how many of `out` are the answer. A whole answer that does not fit is dropped. */
size_t fw_feed(fw_device *device, const uint8_t *data, size_t length, uint32_t now_us, const fw_reading *reading,
               uint8_t *out, size_t room);

/* `periods` (1, more after an overrun) have passed: watchdog, board faults, one step of the limiter. The set-point for
 * the actuator into `setpoint`; true when the actuator shall follow it. */
bool fw_tick(fw_device *device, uint32_t now_us, uint32_t periods, uint16_t board_faults, float *setpoint);

#endif
