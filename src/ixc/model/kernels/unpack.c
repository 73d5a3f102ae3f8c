/* Quantized weights to bfloat16, for the matrix products of a prefill.

   8 bits   q (rows, in) int8                      y = q, which bfloat16 holds exactly; the scale meets the product
   4 bits   q (rows, in / 2) uint8, two a byte     y = q * scale + low, rounded to nearest even
            of `run` consecutive weights the first half is in the low nibbles, the second in the high ones

   Compiled on first use by `ixc.model.kernels`, beside torch's OpenMP. */

#include <stdint.h>
#include <string.h>

#define RUN 64

static inline float wide(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* No weight is a NaN: scale and low are finite. */
static inline uint16_t rounded(float value) {
    uint32_t bits = bits_of(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void ixc_unpack8(const int8_t *q, uint16_t *y, long rows, long in) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const int8_t *from = q + row * in;
        uint16_t *to = y + row * in;
        for (long k = 0; k < in; k++) to[k] = (uint16_t)(bits_of((float)from[k]) >> 16);
    }
}

static inline __attribute__((always_inline)) void unpack_run(const uint8_t *q, float scale, float low, uint16_t *y,
                                                             const int half) {
    for (int k = 0; k < half; k++) y[k] = rounded((float)(q[k] & 15) * scale + low);
    for (int k = 0; k < half; k++) y[half + k] = rounded((float)(q[k] >> 4) * scale + low);
}

void ixc_unpack4(const uint8_t *q, const uint16_t *scale, const uint16_t *low, uint16_t *y, long rows, long in,
                 long group) {
    long groups = in / group;
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++)
        for (long g = 0; g < groups; g++) {
            float s = wide(scale[row * groups + g]), l = wide(low[row * groups + g]);
            long at = row * in + g * group;
            if (group < RUN) unpack_run(q + at / 2, s, l, y + at, RUN / 4);
            else
                for (long k = 0; k < group; k += RUN) unpack_run(q + (at + k) / 2, s, l, y + at + k, RUN / 2);
        }
}
