#include "frame.h"

enum { FIRST = 0xA5, SECOND = 0x5A };

static void put(uint8_t *to, uint32_t value, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static int is(const uint8_t *from, uint32_t value, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (from[i] != (uint8_t)(value >> 8 * i))
            return 0;
    return 1;
}

/* Bit by bit: a table would cost a kilobyte of flash. */
uint32_t frame_crc(uint32_t crc, const uint8_t *bytes, uint32_t count)
{
    crc = ~crc;
    for (uint32_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

int frame_push(frame_reader *reader, uint8_t byte)
{
    uint8_t *frame = reader->bytes;
    const uint32_t at = reader->at;
    if ((at == 0 && byte != FIRST) || (at == 1 && byte != SECOND)) {
        reader->at = at == 1 && byte == FIRST;
        return 0;
    }
    frame[at] = byte;
    reader->at = at + 1;
    if (reader->at < FRAME_HEADER)
        return 0;
    const uint32_t length = frame_length(frame);
    if (reader->at == FRAME_HEADER &&
        (length > FRAME_PAYLOAD || !is(frame + 6, frame_crc(0, frame + 2, 4), 2))) {
        reader->at = 0;
        return 0;
    }
    if (reader->at < FRAME_HEADER + length + FRAME_CRC)
        return 0;
    reader->at = 0;
    return is(frame + FRAME_HEADER + length, frame_crc(0, frame + 2, 6 + length), FRAME_CRC);
}

uint32_t frame_close(uint8_t *frame, uint8_t kind, uint8_t sequence, uint32_t length)
{
    frame[0] = FIRST;
    frame[1] = SECOND;
    frame[2] = kind;
    frame[3] = sequence;
    put(frame + 4, length, 2);
    put(frame + 6, frame_crc(0, frame + 2, 4), 2);
    put(frame + FRAME_HEADER + length, frame_crc(0, frame + 2, 6 + length), FRAME_CRC);
    return FRAME_HEADER + length + FRAME_CRC;
}
