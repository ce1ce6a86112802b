/* edgelink v2 as the device needs it: bytes to host messages, device messages to bytes. No heap, no globals.
 *
 * The same layout, counts and judgement as firmware_bridge/edgelink/frames.py. The numbers below are checked against
 * that file when config.h, which Python writes, is compiled.
 */
#ifndef EDGELINK_H
#define EDGELINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EL_MAX_CHANNELS 32u
#define EL_HEAD_BYTES 4u  /* type u8, flags u8, seq u16 */
#define EL_CRC_BYTES 2u
#define EL_ACK_BYTES 11u  /* schema u32, device us u32, watchdog ms u16, channels u8 */
#define EL_STATE_BYTES 10u /* device us u32, mode u8, verdict u8, faults u16, rejected u16 */
#define EL_FLOAT_BYTES 4u
#define EL_EFFORT_BYTES 2u
#define EL_SHORTEST_BODY (EL_HEAD_BYTES + EL_CRC_BYTES)
#define EL_MAX_BODY                                                                                                  \
    (EL_HEAD_BYTES + EL_STATE_BYTES + (EL_MAX_CHANNELS * (EL_FLOAT_BYTES + EL_EFFORT_BYTES)) + EL_CRC_BYTES)
#define EL_MAX_ENCODED (EL_MAX_BODY + 1u) /* one COBS code byte: a body is below 254 bytes */
#define EL_MAX_FRAME (EL_MAX_ENCODED + 2u) /* a zero before and after */
#define EL_MAX_VALUES ((EL_MAX_BODY - EL_SHORTEST_BODY - 4u) / EL_FLOAT_BYTES) /* of a COMMAND that fits a frame */

typedef enum {
    EL_HELLO = 0x01,
    EL_ARM = 0x02,
    EL_DISARM = 0x03,
    EL_COMMAND = 0x04,
    EL_STOP = 0x05,
    EL_PING = 0x06,
    EL_HELLO_ACK = 0x81,
    EL_STATE = 0x84
} el_kind;

typedef enum {
    EL_ACCEPTED = 0,
    EL_NO_HELLO = 1,
    EL_NOT_ARMED = 2,
    EL_OLD_SEQUENCE = 3,
    EL_EXPIRED = 4,
    EL_TOO_FAR_AHEAD = 5,
    EL_WRONG_COUNT = 6,
    EL_NOT_FINITE = 7,
    EL_OUT_OF_LIMIT = 8
} el_verdict;
#define EL_VERDICTS 9u

typedef enum { EL_DISARMED = 0, EL_ARMED = 1, EL_STOPPED = 2 } el_mode;

/* One message. HELLO_ACK and STATE are recognised (an echo on the line) but their contents are not kept. */
typedef struct {
    uint8_t kind;
    uint8_t count; /* values of a COMMAND */
    uint16_t seq;
    uint32_t number; /* HELLO: schema; ARM, COMMAND: expiry, us of the device's clock */
    float values[EL_MAX_VALUES];
} el_message;

/* What a decoder threw away, and what it passed on. */
typedef struct {
    uint32_t frames;
    uint32_t bad_stuffing;
    uint32_t bad_crc;
    uint32_t bad_message; /* right CRC, but no message of edgelink v2 */
    uint32_t too_short;
    uint32_t too_long;
} el_counts;

typedef struct {
    el_counts counts;
    uint16_t length;
    bool skipping; /* inside a frame that is too long to be one */
    uint8_t partial[EL_MAX_ENCODED];
} el_decoder;

/* What a STATE says; position and effort have `channels` values, NaN effort where none is measured. */
typedef struct {
    uint16_t seq;
    uint32_t device_us;
    uint8_t mode;
    uint8_t verdict;
    uint16_t faults;
    uint16_t rejected;
    size_t channels;
    const float *position;
    const float *effort;
} el_state;

/* What a HELLO_ACK says; held has `channels` values. */
typedef struct {
    uint16_t seq;
    uint32_t schema;
    uint32_t device_us;
    uint16_t watchdog_ms;
    size_t channels;
    const float *held;
} el_hello_ack;

void el_start(el_decoder *decoder);

/* Take one byte of the line; true when it ends a message, which is then in `message`. */
bool el_take(el_decoder *decoder, uint8_t byte, el_message *message);

/* One whole frame into `out`; its length, 0 when `channels` is more than EL_MAX_CHANNELS. */
size_t el_encode_state(const el_state *state, uint8_t out[EL_MAX_FRAME]);
size_t el_encode_hello_ack(const el_hello_ack *ack, uint8_t out[EL_MAX_FRAME]);

/* later - earlier on a clock that wraps at 2^32. */
int32_t el_ticks_until(uint32_t later_us, uint32_t earlier_us);

/* Whether `seq` comes after `than` on a counter that wraps at 2^16. */
bool el_is_newer(uint16_t seq, uint16_t than);

/* CRC-16/CCITT, poly 0x1021, start 0xFFFF. */
uint16_t el_crc(const uint8_t *data, size_t length);

/* IEEE binary16, nearest, ties to even; what is larger than any becomes the largest, 65504; NaN stays one. */
uint16_t el_half(float value);

#endif
