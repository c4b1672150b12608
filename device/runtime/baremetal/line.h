/* The serial line of a board: bytes in and out, one by one. */
#ifndef HEADGATE_LINE_H
#define HEADGATE_LINE_H

#include <stdint.h>

/* The speed of every board, as ../../machines/serial.py has it. */
enum { BAUD = 115200 };

void line_open(void);
/* Waits for a byte. */
uint8_t line_read(void);
void line_write(const uint8_t *bytes, uint32_t count);

#endif
