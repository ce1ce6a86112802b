#include "edgelink.h"

#include <string.h>

#define CRC_START 0xFFFFu
#define CRC_POLY 0x1021u

/* --- little-endian numbers ------------------------------------------------------------------------------------ */

static uint16_t get_u16(const uint8_t *at) {
    return (uint16_t)((uint32_t)at[0] | ((uint32_t)at[1] << 8));
}

static uint32_t get_u32(const uint8_t *at) {
    return (uint32_t)at[0] | ((uint32_t)at[1] << 8) | ((uint32_t)at[2] << 16) | ((uint32_t)at[3] << 24);
}

static float get_f32(const uint8_t *at) {
    const uint32_t bits = get_u32(at);
    float value;
    (void)memcpy(&value, &bits, sizeof value);
    return value;
}

static uint8_t *put_u8(uint8_t *at, uint8_t value) {
    at[0] = value;
    return &at[1];
}

static uint8_t *put_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)(value & 0xFFu);
    at[1] = (uint8_t)(value >> 8);
    return &at[2];
}

static uint8_t *put_u32(uint8_t *at, uint32_t value) {
    return put_u16(put_u16(at, (uint16_t)(value & 0xFFFFu)), (uint16_t)(value >> 16));
}

static uint8_t *put_f32(uint8_t *at, float value) {
    uint32_t bits;
    (void)memcpy(&bits, &value, sizeof bits);
    return put_u32(at, bits);
}

uint16_t el_half(float value) {
    uint32_t bits;
    (void)memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    uint32_t half;
    if (magnitude > 0x7F800000u) {
        half = 0x7E00u; /* NaN */
    } else if (magnitude >= 0x477FE000u) {
        half = 0x7BFFu; /* 65504 and everything above it */
    } else {
        /* A significand of 24 bits loses `shift` of them: 13, and one more for each step below 2^-14. */
        const uint32_t exponent = magnitude >> 23;
        const uint32_t shift = (exponent >= 113u) ? 13u : (126u - exponent);
        const uint32_t significand = (magnitude & 0x7FFFFFu) | ((exponent > 0u) ? 0x800000u : 0u);
        if (shift > 24u) {
            half = 0u;
        } else {
            const uint32_t kept = significand >> shift;
            const uint32_t lost = significand & ((1u << shift) - 1u);
            const uint32_t middle = 1u << (shift - 1u);
            const bool up = (lost > middle) || ((lost == middle) && ((kept & 1u) != 0u));
            /* The carry of rounding runs into the exponent, as it should. */
            half = ((exponent >= 113u) ? ((exponent - 113u) << 10) : 0u) + kept + (up ? 1u : 0u);
        }
    }
    return (uint16_t)(sign | half);
}

/* --- CRC and COBS --------------------------------------------------------------------------------------------- */

uint16_t el_crc(const uint8_t *data, size_t length) {
    uint32_t crc = CRC_START;
    for (size_t i = 0u; i < length; i++) {
        crc ^= (uint32_t)data[i] << 8;
        for (unsigned bit = 0u; bit < 8u; bit++) {
            crc = ((crc & 0x8000u) != 0u) ? ((crc << 1) ^ CRC_POLY) : (crc << 1);
        }
        crc &= 0xFFFFu;
    }
    return (uint16_t)crc;
}

/* The bytes before stuffing into `body`, which has room for length - 1; false: no COBS frame. */
static bool unstuff(const uint8_t *encoded, size_t length, uint8_t *body, size_t *body_length) {
    size_t at = 0u;
    size_t to = 0u;
    while (at < length) {
        const size_t end = at + encoded[at];
        if ((encoded[at] == 0u) || (end > length)) {
            return false;
        }
        if (at > 0u) {
            body[to++] = 0u;
        }
        for (at++; at < end; at++) {
            body[to++] = encoded[at];
        }
    }
    *body_length = to;
    return true;
}

static size_t stuff(const uint8_t *body, size_t length, uint8_t *out) {
    size_t code_at = 0u;
    size_t to = 1u;
    for (size_t i = 0u; i < length; i++) {
        if (body[i] == 0u) {
            out[code_at] = (uint8_t)(to - code_at);
            code_at = to;
        } else {
            out[to] = body[i];
        }
        to++;
    }
    out[code_at] = (uint8_t)(to - code_at);
    return to;
}

/* --- bytes to messages ---------------------------------------------------------------------------------------- */

static bool read_command(const uint8_t *payload, size_t length, el_message *message) {
    if ((length < 4u) || (((length - 4u) % EL_FLOAT_BYTES) != 0u)) {
        return false;
    }
    const size_t count = (length - 4u) / EL_FLOAT_BYTES;
    message->number = get_u32(payload);
    message->count = (uint8_t)count;
    for (size_t i = 0u; i < count; i++) {
        message->values[i] = get_f32(&payload[4u + (i * EL_FLOAT_BYTES)]);
    }
    return true;
}

static bool is_hello_ack(const uint8_t *payload, size_t length) {
    return (length >= EL_ACK_BYTES) && (length == (EL_ACK_BYTES + ((size_t)payload[10] * EL_FLOAT_BYTES)));
}

static bool is_state(const uint8_t *payload, size_t length) {
    return (length >= EL_STATE_BYTES) && (((length - EL_STATE_BYTES) % (EL_FLOAT_BYTES + EL_EFFORT_BYTES)) == 0u) &&
           (payload[4] <= (uint8_t)EL_STOPPED);
}

static bool read_number(const uint8_t *payload, size_t length, el_message *message) {
    if (length != 4u) {
        return false;
    }
    message->number = get_u32(payload);
    return true;
}

/* The message in a CRC-checked body; false when it is none of edgelink v2. */
static bool read_body(const uint8_t *body, size_t length, el_message *message) {
    const uint8_t *payload = &body[EL_HEAD_BYTES];
    const size_t payload_length = length - EL_SHORTEST_BODY;
    bool sound = false;
    message->kind = body[0];
    message->count = 0u;
    message->seq = get_u16(&body[2]);
    message->number = 0u;
    if (body[1] != 0u) { /* flags: none in v2 */
        return false;
    }
    switch (body[0]) {
    case EL_HELLO:
    case EL_ARM:
        sound = read_number(payload, payload_length, message);
        break;
    case EL_COMMAND:
        sound = read_command(payload, payload_length, message);
        break;
    case EL_DISARM:
    case EL_STOP:
    case EL_PING:
        sound = payload_length == 0u;
        break;
    case EL_HELLO_ACK:
        sound = is_hello_ack(payload, payload_length);
        break;
    case EL_STATE:
        sound = is_state(payload, payload_length);
        break;
    default:
        break;
    }
    return sound;
}

/* Judge what stood between two zeros. */
static bool open_frame(el_decoder *decoder, el_message *message) {
    uint8_t body[EL_MAX_ENCODED];
    size_t length = 0u;
    el_counts *counts = &decoder->counts;
    if (!unstuff(decoder->partial, decoder->length, body, &length)) {
        counts->bad_stuffing++;
        return false;
    }
    if (length < EL_SHORTEST_BODY) {
        counts->too_short++;
        return false;
    }
    if (el_crc(body, length - EL_CRC_BYTES) != get_u16(&body[length - EL_CRC_BYTES])) {
        counts->bad_crc++;
        return false;
    }
    if (!read_body(body, length, message)) {
        counts->bad_message++;
        return false;
    }
    counts->frames++;
    return true;
}

void el_start(el_decoder *decoder) {
    (void)memset(decoder, 0, sizeof *decoder);
}

bool el_take(el_decoder *decoder, uint8_t byte, el_message *message) {
    if (byte == 0u) {
        const bool whole = (!decoder->skipping) && (decoder->length > 0u);
        const bool found = whole && open_frame(decoder, message);
        decoder->length = 0u;
        decoder->skipping = false;
        return found;
    }
    if (decoder->skipping) {
        return false;
    }
    if (decoder->length >= EL_MAX_ENCODED) {
        decoder->counts.too_long++;
        decoder->skipping = true;
        return false;
    }
    decoder->partial[decoder->length] = byte;
    decoder->length++;
    return false;
}

/* --- messages to bytes ---------------------------------------------------------------------------------------- */

static uint8_t *put_head(uint8_t *body, el_kind kind, uint16_t seq) {
    return put_u16(put_u8(put_u8(body, (uint8_t)kind), 0u), seq);
}

static size_t finish(uint8_t *body, const uint8_t *end, uint8_t *out) {
    const size_t length = (size_t)(end - body);
    (void)put_u16(&body[length], el_crc(body, length));
    out[0] = 0u;
    const size_t stuffed = stuff(body, length + EL_CRC_BYTES, &out[1]);
    out[stuffed + 1u] = 0u;
    return stuffed + 2u;
}

size_t el_encode_state(const el_state *state, uint8_t out[EL_MAX_FRAME]) {
    uint8_t body[EL_MAX_BODY];
    if (state->channels > EL_MAX_CHANNELS) {
        return 0u;
    }
    uint8_t *at = put_head(body, EL_STATE, state->seq);
    at = put_u8(put_u8(put_u32(at, state->device_us), state->mode), state->verdict);
    at = put_u16(put_u16(at, state->faults), state->rejected);
    for (size_t i = 0u; i < state->channels; i++) {
        at = put_f32(at, state->position[i]);
    }
    for (size_t i = 0u; i < state->channels; i++) {
        at = put_u16(at, el_half(state->effort[i]));
    }
    return finish(body, at, out);
}

size_t el_encode_hello_ack(const el_hello_ack *ack, uint8_t out[EL_MAX_FRAME]) {
    uint8_t body[EL_MAX_BODY];
    if (ack->channels > EL_MAX_CHANNELS) {
        return 0u;
    }
    uint8_t *at = put_head(body, EL_HELLO_ACK, ack->seq);
    at = put_u16(put_u32(put_u32(at, ack->schema), ack->device_us), ack->watchdog_ms);
    at = put_u8(at, (uint8_t)ack->channels);
    for (size_t i = 0u; i < ack->channels; i++) {
        at = put_f32(at, ack->held[i]);
    }
    return finish(body, at, out);
}

/* --- numbers that wrap ---------------------------------------------------------------------------------------- */

int32_t el_ticks_until(uint32_t later_us, uint32_t earlier_us) {
    const uint32_t difference = later_us - earlier_us;
    /* Without the implementation-defined conversion of a large unsigned to a signed number. */
    return (difference < 0x80000000u) ? (int32_t)difference : (-(int32_t)(0xFFFFFFFFu - difference) - 1);
}

bool el_is_newer(uint16_t seq, uint16_t than) {
    const uint16_t ahead = (uint16_t)((uint32_t)seq - (uint32_t)than);
    return (ahead > 0u) && (ahead < 0x8000u);
}
