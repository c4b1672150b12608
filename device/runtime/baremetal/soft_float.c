/* For cores without an FPU: what kernels need beside the compiler's own functions for floats.
 *
 * Results are those of float32 to the bit. Where fixed point leaves no doubt which whole number
 * is nearest, it decides; floats decide what lies near the middle between two.
 */
#include <stdint.h>

enum { MANTISSA_BITS = 23, BIAS = 127, FRACTION_BITS = 16 };

int32_t headgate_nearest(float value);
int32_t headgate_nearest_scaled(int32_t total, float scale, float shift);
int32_t headgate_nearest_added(int32_t total, float scale, float shift, int32_t own,
                               float own_scale);

static uint32_t bits_of(float value)
{
    return ((union { float number; uint32_t bits; }){value}).bits;
}

/* The nearest int32, ties to even; what does not fit becomes the nearest that does, and what is no
 * number zero: as VCVTR of an FPU. */
int32_t headgate_nearest(float value)
{
    const uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFFu;
    const int32_t exponent = (int32_t)(magnitude >> MANTISSA_BITS) - BIAS;
    const uint32_t mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    uint32_t whole;
    if (exponent < -1)
        return 0;
    if (exponent >= 31) {
        if (magnitude > 0x7F800000u)
            return 0;
        return bits >> 31 ? INT32_MIN : INT32_MAX;
    }
    if (exponent >= MANTISSA_BITS) {
        whole = mantissa << (exponent - MANTISSA_BITS);
    } else {
        const int32_t shift = MANTISSA_BITS - exponent;
        const uint32_t rest = mantissa << (32 - shift), half = 0x80000000u;
        whole = mantissa >> shift;
        whole += rest > half || (rest == half && whole & 1);
    }
    return bits >> 31 ? -(int32_t)whole : (int32_t)whole;
}

/* Below 1024 in magnitude float32 is at most 0.00031 off after two products and two sums, and
 * three numbers in fixed point 3 / 65536. */
enum { BOUND = 1024 << FRACTION_BITS, DOUBT = 64, ONE = 1 << FRACTION_BITS };

/* number * scale in fixed point, rounded down; BOUND where it is larger than that. */
static inline int32_t fixed(int32_t number, float scale)
{
    const uint32_t bits = bits_of(scale);
    const int32_t shift = BIAS + MANTISSA_BITS - FRACTION_BITS - (int32_t)(bits >> 23 & 255);
    const int32_t mantissa = (int32_t)((bits & 0x7FFFFFu) | 0x800000u);
    if (shift < 0)
        return BOUND;
    if (shift > 63)
        return 0;
    const int64_t product = (int64_t)number * (bits >> 31 ? -mantissa : mantissa) >> shift;
    return product > -BOUND && product < BOUND ? (int32_t)product : BOUND;
}

/* Whether the whole number nearest to a sum in fixed point is sure. */
static inline int is_sure(int32_t sum)
{
    return ((uint32_t)sum + ONE / 2 + DOUBT) % ONE >= 2 * DOUBT;
}

static inline int32_t nearest_of_fixed(int32_t sum)
{
    return (sum + ONE / 2) >> FRACTION_BITS;
}

/* headgate_nearest(total * scale + shift) */
int32_t headgate_nearest_scaled(int32_t total, float scale, float shift)
{
    const int32_t product = fixed(total, scale), added = fixed(1, shift);
    if (product != BOUND && added != BOUND && is_sure(product + added))
        return nearest_of_fixed(product + added);
    const float scaled = (float)total * scale;
    return headgate_nearest(scaled + shift);
}

/* headgate_nearest((total * scale + shift) + own * own_scale) */
int32_t headgate_nearest_added(int32_t total, float scale, float shift, int32_t own,
                               float own_scale)
{
    const int32_t product = fixed(total, scale), added = fixed(1, shift);
    const int32_t other = fixed(own, own_scale), sum = product + added + other;
    if (product != BOUND && added != BOUND && other != BOUND && is_sure(sum))
        return nearest_of_fixed(sum);
    const float scaled = (float)total * scale, shifted = scaled + shift;
    const float second = (float)own * own_scale;
    return headgate_nearest(shifted + second);
}
