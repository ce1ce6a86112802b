/* What `edgevla firmware info` finds inside an image: 64 bytes, little endian, once in every build. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include <stdint.h>

#define FW_MAGIC "EDGEFW\0\1" /* 8 bytes with the layout's number, without a closing zero */

typedef struct {
    char magic[8];
    uint32_t schema;
    uint32_t period_us;
    uint16_t watchdog_ms;
    uint8_t channels;
    uint8_t reserved;
    char name[44]; /* of the arm profile, zero-padded */
} fw_identity;

_Static_assert(sizeof(fw_identity) == 64, "the identity has 64 bytes in every image");

#endif
