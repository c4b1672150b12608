/* Frames on a serial line: what a host and firmware say to each other (../../serial_frames.py).
 *
 *   0xA5 0x5A | kind | sequence | length, 2 | check, 2 | payload, length | CRC-32, 4
 *
 * Numbers are little-endian. `check` is the lower half of the CRC-32 of the four bytes in front of
 * it, so that a garbled length is not believed; the CRC-32 at the end is of all from `kind` on.
 * The file needs nothing but stdint.h and can be tested anywhere.
 */
#ifndef HEADGATE_FRAME_H
#define HEADGATE_FRAME_H

#include <stdint.h>

enum {
    FRAME_HEADER = 8,
    FRAME_CRC = 4,
    FRAME_PAYLOAD = 1024, /* bytes at most */
    FRAME_BYTES = FRAME_HEADER + FRAME_PAYLOAD + FRAME_CRC
};

/* A frame as it arrives. Zeroed at first. */
typedef struct {
    uint8_t bytes[FRAME_BYTES];
    uint32_t at; /* bytes of it that are there */
} frame_reader;

static inline uint8_t frame_kind(const uint8_t *frame) { return frame[2]; }
static inline uint8_t frame_sequence(const uint8_t *frame) { return frame[3]; }
static inline uint32_t frame_length(const uint8_t *frame) 
{
    return frame[4] | (uint32_t)frame[5] << 8;
}

uint32_t frame_crc(uint32_t crc, const uint8_t *bytes, uint32_t count);

/* Takes one byte; whether a whole and right frame now lies in `reader->bytes`. */
int frame_push(frame_reader *reader, uint8_t byte);

/* Writes what is around the payload, which lies at frame + FRAME_HEADER; the frame's bytes. */
uint32_t frame_close(uint8_t *frame, uint8_t kind, uint8_t sequence, uint32_t length);

#endif
