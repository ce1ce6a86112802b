#include "device.h"

#include <math.h>
#include <string.h>

bool fw_is_sound(const fw_config *config) {
    bool sound = (config->channels >= 1u) && (config->channels <= EL_MAX_CHANNELS) && (config->period_us > 0u) &&
                 (config->watchdog_us > 0u) && (config->watchdog_us <= FW_LONGEST_WATCHDOG_US);
    for (size_t i = 0u; sound && (i < config->channels); i++) {
        const lim_range *range = &config->ranges[i];
        sound = isfinite(range->low) && isfinite(range->high) && (range->low < range->high) &&
                (range->max_velocity > 0.0) && isfinite(range->max_velocity) && (range->max_acceleration > 0.0) &&
                isfinite(range->max_acceleration) && (range->max_jerk > 0.0) && isfinite(range->max_jerk) &&
                (range->stop_deceleration > 0.0) && (range->stop_deceleration <= range->max_acceleration);
    }
    return sound;
}

bool fw_start(fw_device *device, const fw_config *config, const float *position) {
    double rest[EL_MAX_CHANNELS];
    (void)memset(device, 0, sizeof *device);
    if (!fw_is_sound(config)) {
        return false;
    }
    device->config = config;
    device->period_s = (double)config->period_us / 1e6;
    el_start(&device->decoder);
    for (size_t i = 0u; i < config->channels; i++) {
        const lim_range *range = &config->ranges[i];
        const double at = (double)position[i];
        device->axes[i] = lim_axis_of(range, device->period_s);
        rest[i] = (at >= range->low) ? ((at <= range->high) ? at : range->high) : range->low; /* NaN: low */
        device->held[i] = (float)rest[i];
    }
    lim_rest_at(&device->motion, rest, config->channels);
    return true;
}

/* --- modes ---------------------------------------------------------------------------------------------------- */

static bool is_following(const fw_device *device) {
    return (device->mode == (uint8_t)EL_ARMED) && (device->commands_since_arming > 0u);
}

static void hold_the_setpoint(fw_device *device) {
    for (size_t i = 0u; i < device->config->channels; i++) {
        device->held[i] = (float)device->motion.row[i].setpoint;
    }
}

/* Out of ARMED, or from one rest to another: from here the set-point decelerates, wherever it was going. */
static void leave(fw_device *device, el_mode mode) {
    if (is_following(device)) {
        hold_the_setpoint(device);
        device->motion.has_wanted = false;
    }
    device->mode = (uint8_t)mode;
}

static void latch(fw_device *device, uint16_t faults) {
    leave(device, EL_STOPPED);
    device->faults = (uint16_t)(device->faults | faults);
}

static void check_watchdog(fw_device *device, uint32_t now_us) {
    const uint32_t silent_us = now_us - device->fed_us;
    if ((device->mode == (uint8_t)EL_ARMED) && (silent_us > device->config->watchdog_us)) {
        latch(device, FW_FAULT_WATCHDOG);
        device->watchdog_trips++;
    }
}

static void check_board(fw_device *device, uint16_t board_faults) {
    const uint16_t faults = (uint16_t)(board_faults & FW_FAULT_BOARD);
    if ((faults != 0u) && (device->mode != (uint8_t)EL_DISARMED)) {
        latch(device, faults);
    }
}

/* Clears a latched stop: the only thing that does. */
static void arm(fw_device *device, uint32_t now_us) {
    if (device->mode != (uint8_t)EL_ARMED) {
        device->commands_since_arming = 0u;
    }
    device->mode = (uint8_t)EL_ARMED;
    device->faults = 0u;
    device->fed_us = now_us;
}

/* --- verdicts ------------------------------------------------------------------------------------------------- */

static el_verdict judge_setpoint(const fw_device *device, const el_message *command) {
    const fw_config *config = device->config;
    if ((size_t)command->count != config->channels) {
        return EL_WRONG_COUNT;
    }
    for (size_t i = 0u; i < config->channels; i++) {
        if (!isfinite(command->values[i])) {
            return EL_NOT_FINITE;
        }
    }
    for (size_t i = 0u; i < config->channels; i++) {
        const double value = (double)command->values[i];
        if (!((value >= config->ranges[i].low) && (value <= config->ranges[i].high))) {
            return EL_OUT_OF_LIMIT;
        }
    }
    return (device->mode == (uint8_t)EL_ARMED) ? EL_ACCEPTED : EL_NOT_ARMED;
}

static el_verdict judge_expiring(const fw_device *device, const el_message *message, uint32_t now_us) {
    const int32_t left_us = el_ticks_until(message->number, now_us);
    if (left_us <= 0) {
        return EL_EXPIRED;
    }
    if (left_us > FW_MAX_AHEAD_US) {
        return EL_TOO_FAR_AHEAD;
    }
    return (message->kind == (uint8_t)EL_COMMAND) ? judge_setpoint(device, message) : EL_ACCEPTED;
}

static el_verdict judge(const fw_device *device, const el_message *message, uint32_t now_us) {
    if ((message->kind == (uint8_t)EL_STOP) || (message->kind == (uint8_t)EL_PING)) {
        return EL_ACCEPTED; /* always safe, so never refused */
    }
    if (!device->greeted) {
        return EL_NO_HELLO;
    }
    if (!el_is_newer(message->seq, device->last_seq)) {
        return EL_OLD_SEQUENCE;
    }
    return (message->kind == (uint8_t)EL_DISARM) ? EL_ACCEPTED : judge_expiring(device, message, now_us);
}

static void take_command(fw_device *device, const el_message *command, uint32_t now_us) {
    for (size_t i = 0u; i < device->config->channels; i++) {
        device->held[i] = command->values[i];
    }
    device->fed_us = now_us;
    device->commands_since_arming++;
    device->accepted++;
}

static void obey(fw_device *device, const el_message *message, uint32_t now_us) {
    if ((message->kind != (uint8_t)EL_STOP) && (message->kind != (uint8_t)EL_PING)) {
        device->last_seq = message->seq;
    }
    switch (message->kind) {
    case EL_COMMAND:
        take_command(device, message, now_us);
        break;
    case EL_ARM:
        arm(device, now_us);
        break;
    case EL_DISARM:
        leave(device, EL_DISARMED);
        break;
    case EL_STOP:
        if (device->mode != (uint8_t)EL_DISARMED) {
            latch(device, FW_FAULT_STOP);
        }
        break;
    default: /* PING */
        break;
    }
}

/* --- answers -------------------------------------------------------------------------------------------------- */

/* A new host: whatever the last one did, nothing is armed. */
static size_t greet(fw_device *device, const el_message *hello, uint32_t now_us, uint8_t *out) {
    leave(device, EL_DISARMED);
    device->greeted = hello->number == device->config->schema;
    device->last_seq = hello->seq;
    const el_hello_ack ack = {
        .seq = hello->seq,
        .schema = device->config->schema,
        .device_us = now_us,
        .watchdog_ms = (uint16_t)(device->config->watchdog_us / 1000u),
        .channels = device->config->channels,
        .held = device->held,
    };
    return el_encode_hello_ack(&ack, out);
}

static uint16_t refusals(const fw_device *device) {
    uint32_t sum = 0u;
    for (size_t i = 1u; i < EL_VERDICTS; i++) {
        sum += device->refused[i];
    }
    return (uint16_t)(sum & 0xFFFFu);
}

static size_t answer(fw_device *device, const el_message *message, uint32_t now_us, const fw_reading *reading,
                     uint8_t *out) {
    if (message->kind == (uint8_t)EL_HELLO) {
        return greet(device, message, now_us, out);
    }
    if ((message->kind == (uint8_t)EL_HELLO_ACK) || (message->kind == (uint8_t)EL_STATE)) {
        return 0u; /* another device's answer: an echo on the line */
    }
    const el_verdict verdict = judge(device, message, now_us);
    if (verdict == EL_ACCEPTED) {
        obey(device, message, now_us);
        check_board(device, reading->faults); /* an arming that the board cannot have is told at once */
    } else {
        device->refused[verdict]++;
    }
    const el_state state = {
        .seq = message->seq,
        .device_us = now_us,
        .mode = device->mode,
        .verdict = (uint8_t)verdict,
        .faults = device->faults,
        .rejected = refusals(device),
        .channels = device->config->channels,
        .position = reading->position,
        .effort = reading->effort,
    };
    return el_encode_state(&state, out);
}

size_t fw_feed(fw_device *device, const uint8_t *data, size_t length, uint32_t now_us, const fw_reading *reading,
               uint8_t *out, size_t room) {
    el_message message;
    uint8_t reply[EL_MAX_FRAME];
    size_t used = 0u;
    check_watchdog(device, now_us);
    check_board(device, reading->faults);
    for (size_t i = 0u; i < length; i++) {
        if (el_take(&device->decoder, data[i], &message)) {
            const size_t size = answer(device, &message, now_us, reading, reply);
            if (size <= (room - used)) {
                (void)memcpy(&out[used], reply, size);
                used += size;
            } else {
                device->lost_replies++;
            }
        }
    }
    return used;
}

bool fw_tick(fw_device *device, uint32_t now_us, uint32_t periods, uint16_t board_faults, float *setpoint) {
    double wanted[EL_MAX_CHANNELS] = {0.0};
    const double elapsed_s = (double)periods * device->period_s;
    const size_t channels = device->config->channels;
    check_watchdog(device, now_us);
    check_board(device, board_faults);
    if (is_following(device)) {
        for (size_t i = 0u; i < channels; i++) {
            wanted[i] = (double)device->held[i];
        }
        (void)lim_track(device->axes, &device->motion, wanted, elapsed_s);
        device->driven = true;
    } else if (!lim_resting(&device->motion)) {
        (void)lim_slow_down(device->axes, &device->motion, elapsed_s);
        hold_the_setpoint(device);
    } else {
        device->driven = device->driven && (device->mode != (uint8_t)EL_DISARMED);
    }
    for (size_t i = 0u; i < channels; i++) {
        setpoint[i] = (float)device->motion.row[i].setpoint;
    }
    return device->driven;
}
