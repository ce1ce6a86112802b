#include "run.h"

#include "board.h"

#define READ_BYTES 256u /* per round: a host that babbles must not hold the period */
#define REPLY_BYTES (4u * EL_MAX_FRAME)

bool fw_loop_start(fw_loop *loop, const fw_config *config) {
    if (!fw_is_sound(config)) {
        return false;
    }
    loop->skipped = 0u;
    loop->reading.faults = board_sense(loop->reading.position, loop->reading.effort, config->channels);
    const bool sound = fw_start(&loop->device, config, loop->reading.position);
    loop->next_us = board_now_us() + config->period_us;
    return sound;
}

static void serve(fw_loop *loop) {
    uint8_t data[READ_BYTES];
    uint8_t reply[REPLY_BYTES];
    fw_device *device = &loop->device;
    const size_t length = board_uart_read(data, sizeof data);
    if (length > 0u) {
        const uint32_t before = device->commands_since_arming;
        loop->reading.faults =
            board_sense(loop->reading.position, loop->reading.effort, device->config->channels);
        const uint32_t now_us = board_now_us(); /* after the read: an expiry is judged no earlier than the arrival */
        const size_t size = fw_feed(device, data, length, now_us, &loop->reading, reply, sizeof reply);
        if ((size > 0u) && (board_uart_write(reply, size) != size)) {
            device->lost_replies++;
        }
        if ((before == 0u) && (device->commands_since_arming > 0u)) {
            /* Half a period from the host's writes: its jitter has the same room on both sides. A whole one more, so
             * that no step of the limiter, which counts whole periods, comes too soon after the last. */
            loop->next_us = now_us + device->config->period_us + (device->config->period_us / 2u);
        }
    }
}

void fw_loop_spin(fw_loop *loop) {
    float setpoint[EL_MAX_CHANNELS];
    const fw_config *config = loop->device.config;
    serve(loop); /* before the period: the watchdog is never judged with commands unread */
    const uint32_t now_us = board_now_us();
    const int32_t late_us = el_ticks_until(now_us, loop->next_us);
    if (late_us >= 0) {
        const uint32_t behind = (uint32_t)late_us / config->period_us;
        loop->reading.faults = board_sense(loop->reading.position, loop->reading.effort, config->channels);
        const bool drive = fw_tick(&loop->device, now_us, behind + 1u, loop->reading.faults, setpoint);
        board_actuate(setpoint, config->channels, drive);
        loop->skipped += behind;
        loop->next_us += (behind + 1u) * config->period_us;
    }
}
