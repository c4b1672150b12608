/* Text to the console of the debugger, or of QEMU. Without a debugger nothing is printed. */
#ifndef HEADGATE_SEMIHOSTING_H
#define HEADGATE_SEMIHOSTING_H

#include <stdint.h>

void print(const char *text);
void print_number(uint64_t number);
/* Ends the program in QEMU; under a debugger it stops here. */
_Noreturn void finish(int succeeded);

#endif
