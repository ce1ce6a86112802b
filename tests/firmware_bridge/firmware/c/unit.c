/* Unit tests of the library, compiled with address and undefined-behaviour sanitizers. Literal bytes: the same as in
 * tests/firmware_bridge/edgelink/test_codec.py. Prints the number of checks; exit code 1 with the line that failed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

static unsigned checks;
static unsigned failures;

#define CHECK(condition)                                                                                             \
    do {                                                                                                             \
        checks++;                                                                                                    \
        if (!(condition)) {                                                                                          \
            failures++;                                                                                              \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                    \
        }                                                                                                            \
    } while (0)

static const uint8_t HELLO_SEQ_1[] = {0x00, 0x02, 0x01, 0x02, 0x01, 0x00}; /* cut short: too short to be one */
static const uint8_t ARM_SEQ_2[] = {0x00, 0x02, 0x02, 0x02, 0x02, 0x04, 0x90, 0x05, 0x10, 0x03, 0xc4, 0x1b, 0x00};
static const uint8_t DISARM_1234[] = {0x00, 0x02, 0x03, 0x05, 0x34, 0x12, 0x3e, 0xe4, 0x00};
static const uint8_t COMMAND_SEQ_3[] = {0x00, 0x02, 0x04, 0x02, 0x03, 0x04, 0x14, 0x73, 0x0f, 0x01, 0x01,
                                        0x03, 0x80, 0x3e, 0x01, 0x05, 0x80, 0xbf, 0xec, 0x92, 0x00};
static const uint8_t STOP_SEQ_4[] = {0x00, 0x02, 0x05, 0x02, 0x04, 0x03, 0x41, 0xf4, 0x00};
static const uint8_t STATE_SEQ_3[] = {0x00, 0x02, 0x84, 0x02, 0x03, 0x04, 0xbb, 0x42, 0x0f, 0x02, 0x01, 0x01,
                                      0x01, 0x02, 0x07, 0x01, 0x01, 0x03, 0x80, 0x3e, 0x01, 0x01, 0x02, 0xbf,
                                      0x02, 0x3e, 0x04, 0xcd, 0x64, 0x9c, 0x00};

static unsigned take_all(el_decoder *decoder, const uint8_t *data, size_t length, el_message *last) {
    unsigned found = 0u;
    for (size_t i = 0u; i < length; i++) {
        found += el_take(decoder, data[i], last) ? 1u : 0u;
    }
    return found;
}

static void test_literal_bytes_are_read(void) {
    el_decoder decoder;
    el_message message;
    el_start(&decoder);
    CHECK(take_all(&decoder, ARM_SEQ_2, sizeof ARM_SEQ_2, &message) == 1u);
    CHECK((message.kind == EL_ARM) && (message.seq == 2u) && (message.number == 1050000u));
    CHECK(take_all(&decoder, DISARM_1234, sizeof DISARM_1234, &message) == 1u);
    CHECK((message.kind == EL_DISARM) && (message.seq == 0x1234u));
    CHECK(take_all(&decoder, COMMAND_SEQ_3, sizeof COMMAND_SEQ_3, &message) == 1u);
    CHECK((message.kind == EL_COMMAND) && (message.number == 1012500u) && (message.count == 2u));
    CHECK((message.values[0] == 0.25f) && (message.values[1] == -1.0f));
    CHECK(take_all(&decoder, STATE_SEQ_3, sizeof STATE_SEQ_3, &message) == 1u);
    CHECK((message.kind == EL_STATE) && (message.seq == 3u));
    CHECK((decoder.counts.frames == 4u) && (decoder.counts.bad_crc == 0u));
}

static void test_a_state_is_written_to_its_literal_bytes(void) {
    const float position[2] = {0.25f, -0.5f};
    const float effort[2] = {1.5f, -20.0f};
    const el_state state = {.seq = 3u, .device_us = 1000123u, .mode = EL_ARMED, .verdict = EL_ACCEPTED, .faults = 0u,
                            .rejected = 7u, .channels = 2u, .position = position, .effort = effort};
    uint8_t out[EL_MAX_FRAME];
    CHECK(el_encode_state(&state, out) == sizeof STATE_SEQ_3);
    CHECK(memcmp(out, STATE_SEQ_3, sizeof STATE_SEQ_3) == 0);
}

static void test_the_longest_state_fits_and_one_channel_more_is_refused(void) {
    float values[EL_MAX_CHANNELS];
    uint8_t out[EL_MAX_FRAME];
    el_decoder decoder;
    el_message message;
    for (size_t i = 0u; i < EL_MAX_CHANNELS; i++) {
        values[i] = 1.1f;
    }
    el_state state = {.device_us = 0x11111111u, .channels = EL_MAX_CHANNELS, .position = values, .effort = values};
    el_start(&decoder);
    CHECK(el_encode_state(&state, out) == EL_MAX_FRAME);
    CHECK(take_all(&decoder, out, EL_MAX_FRAME, &message) == 1u);
    state.channels = EL_MAX_CHANNELS + 1u;
    CHECK(el_encode_state(&state, out) == 0u);
    const el_hello_ack ack = {.channels = EL_MAX_CHANNELS + 1u, .held = values};
    CHECK(el_encode_hello_ack(&ack, out) == 0u);
}

static void test_what_is_no_frame_is_counted_by_its_reason(void) {
    static const uint8_t bad_stuffing[] = {0x09, 0x01, 0x02, 0x00};
    el_decoder decoder;
    el_message message;
    uint8_t broken[sizeof STOP_SEQ_4];
    el_start(&decoder);
    CHECK(take_all(&decoder, HELLO_SEQ_1, sizeof HELLO_SEQ_1, &message) == 0u);
    CHECK(decoder.counts.too_short == 1u);
    CHECK(take_all(&decoder, bad_stuffing, sizeof bad_stuffing, &message) == 0u);
    CHECK(decoder.counts.bad_stuffing == 1u);
    for (size_t i = 1u; i < (sizeof broken - 1u); i++) { /* every single bit of a frame */
        for (unsigned bit = 0u; bit < 8u; bit++) {
            (void)memcpy(broken, STOP_SEQ_4, sizeof broken);
            broken[i] = (uint8_t)(broken[i] ^ (1u << bit));
            CHECK(take_all(&decoder, broken, sizeof broken, &message) == 0u);
        }
    }
    CHECK(decoder.counts.bad_crc > 0u);
    for (unsigned i = 0u; i < 1000u; i++) {
        CHECK(!el_take(&decoder, 0x55u, &message));
    }
    CHECK(decoder.counts.too_long == 1u);
    CHECK(take_all(&decoder, STOP_SEQ_4, sizeof STOP_SEQ_4, &message) == 1u); /* in step again at the next zero */
}

static void test_numbers_that_wrap(void) {
    CHECK(el_ticks_until(5u, 0xFFFFFFFBu) == 10);
    CHECK(el_ticks_until(0xFFFFFFFBu, 5u) == -10);
    CHECK(el_ticks_until(0x80000000u, 0u) == INT32_MIN);
    CHECK(el_ticks_until(0x7FFFFFFFu, 0u) == INT32_MAX);
    CHECK(el_is_newer(0u, 0xFFFFu) && el_is_newer(0x7FFFu, 0u));
    CHECK(!el_is_newer(7u, 7u) && !el_is_newer(0x8000u, 0u) && !el_is_newer(0xFFFFu, 0u));
    CHECK(el_crc((const uint8_t *)"123456789", 9u) == 0x29B1u); /* the check value of CRC-16/CCITT-FALSE */
    CHECK((el_half(1.0f) == 0x3C00u) && (el_half(-65504.0f) == 0xFBFFu) && (el_half(1e30f) == 0x7BFFu));
    CHECK(el_half(NAN) == 0x7E00u);
}

static const lim_range RANGES[1] = {{-0.5, 0.5, 1.0, 10.0, 200.0, 5.0}};
static const fw_config CONFIG = {0xC0FFEEu, 100000u, 5000u, 1u, RANGES};

static void test_an_unsound_configuration_is_refused(void) {
    static fw_device device;
    const float position[1] = {0.0f};
    fw_config config = CONFIG;
    CHECK(fw_start(&device, &config, position));
    config.channels = EL_MAX_CHANNELS + 1u;
    CHECK(!fw_start(&device, &config, position));
    config.channels = 0u;
    CHECK(!fw_start(&device, &config, position));
    config = CONFIG;
    config.period_us = 0u;
    CHECK(!fw_start(&device, &config, position));
    config = CONFIG;
    config.watchdog_us = FW_LONGEST_WATCHDOG_US + 1u;
    CHECK(!fw_start(&device, &config, position));
}

static void test_power_on_holds_what_is_measured_within_the_range(void) {
    static fw_device device;
    const float measured[4] = {0.25f, 7.0f, -7.0f, NAN};
    const float held[4] = {0.25f, 0.5f, -0.5f, -0.5f};
    for (unsigned i = 0u; i < 4u; i++) {
        float setpoint[1];
        CHECK(fw_start(&device, &CONFIG, &measured[i]));
        CHECK(!fw_tick(&device, 0u, 1u, 0u, setpoint));
        CHECK(setpoint[0] == held[i]);
    }
}

static void test_a_stop_before_a_hello_is_taken_and_a_command_is_not(void) {
    static fw_device device;
    static const fw_reading reading;
    const float position[1] = {0.0f};
    uint8_t out[2u * EL_MAX_FRAME];
    el_decoder decoder;
    el_message answer;
    el_start(&decoder);
    CHECK(fw_start(&device, &CONFIG, position));
    size_t size = fw_feed(&device, STOP_SEQ_4, sizeof STOP_SEQ_4, 0u, &reading, out, sizeof out);
    CHECK((take_all(&decoder, out, size, &answer) == 1u) && (answer.kind == EL_STATE));
    CHECK((device.mode == EL_DISARMED) && (device.faults == 0u)); /* nothing to stop */
    size = fw_feed(&device, COMMAND_SEQ_3, sizeof COMMAND_SEQ_3, 0u, &reading, out, sizeof out);
    CHECK((take_all(&decoder, out, size, &answer) == 1u) && (device.refused[EL_NO_HELLO] == 1u));
    CHECK(fw_feed(&device, STOP_SEQ_4, sizeof STOP_SEQ_4, 0u, &reading, out, 0u) == 0u);
    CHECK(device.lost_replies == 1u);
}

int main(void) {
    test_literal_bytes_are_read();
    test_a_state_is_written_to_its_literal_bytes();
    test_the_longest_state_fits_and_one_channel_more_is_refused();
    test_what_is_no_frame_is_counted_by_its_reason();
    test_numbers_that_wrap();
    test_an_unsound_configuration_is_refused();
    test_power_on_holds_what_is_measured_within_the_range();
    test_a_stop_before_a_hello_is_taken_and_a_command_is_not();
    (void)printf("%u checks, %u failed\n", checks, failures);
    return (failures == 0u) ? 0 : 1;
}
