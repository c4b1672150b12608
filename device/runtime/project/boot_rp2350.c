/* The block by which RP2350's boot ROM knows an image (its datasheet, "Minimum Arm IMAGE_DEF"): a
 * program for the Arm cores, secure, for RP2350. It starts by the vectors at flash's beginning. */
#include <stdint.h>

__attribute__((section(".boot"), used)) static const uint32_t image_definition[] = {
    0xFFFFDED3, 0x10210142, 0x000001FF, 0x00000000, 0xAB123579,
};
