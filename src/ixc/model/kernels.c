/* Linear maps over small weights, for a few rows of float32 (the decode step of a CPU).

   x (rows, in) float32, y (rows, out) float32; in is a multiple of 32.
   8 bits   q (out, in) int8                      scale (out) bfloat16                   w = q * scale
   4 bits   q (out, in / 2) uint8, two a byte     scale, low (out, in / group) bfloat16   w = q * scale + low
            byte i of 16 holds weight i of its 32 in the low nibble and weight i + 16 in the high one.
   sums (rows, in / group): x added up over each group, so that `low` costs one product a group.

   A weight is unpacked once for ROWS rows. Compiled on first use by `ixc.model.kernels`, beside torch's OpenMP. */

#include <stdint.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define LANES 8
#define ROWS 4
#define BLOCK 32

typedef float f32 __attribute__((vector_size(4 * LANES)));
typedef int32_t i32 __attribute__((vector_size(4 * LANES)));

static inline float wide(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline f32 load(const float *at) {
    f32 value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline float total(f32 values) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += values[i];
    return sum;
}

#ifdef __AVX2__
/* gcc's own conversion of narrow vectors goes through memory and is eight times slower. */
static inline i32 bytes(const uint8_t *at) { return (i32)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at)); }
static inline f32 number(i32 v) { return (f32)_mm256_cvtepi32_ps((__m256i)v); }
static inline f32 signs(const int8_t *at) {
    return (f32)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at)));
}
#else
static inline i32 bytes(const uint8_t *at) {
    i32 v;
    for (int i = 0; i < LANES; i++) v[i] = at[i];
    return v;
}
static inline f32 number(i32 v) {
    f32 w;
    for (int i = 0; i < LANES; i++) w[i] = (float)v[i];
    return w;
}
static inline f32 signs(const int8_t *at) {
    f32 w;
    for (int i = 0; i < LANES; i++) w[i] = (float)at[i];
    return w;
}
#endif

static inline __attribute__((always_inline)) void row4(const float *x, const uint8_t *q, const uint16_t *scale,
                                                       const uint16_t *low, const float *sums, float *y, int rows,
                                                       long in, long out, long group) {
    long groups = in / group;
    f32 whole[ROWS] = {0};
    float rest[ROWS] = {0};
    for (long g = 0; g < groups; g++) {
        f32 a[2][ROWS] = {0}, b[2][ROWS] = {0};
        for (long k = g * group; k < (g + 1) * group; k += BLOCK)
            for (int half = 0; half < 2; half++) {
                i32 pair = bytes(q + k / 2 + LANES * half);
                f32 first = number(pair & 15), second = number(pair >> 4);
                for (int m = 0; m < rows; m++) {
                    const float *at = x + m * in + k + LANES * half;
                    a[half][m] += first * load(at);
                    b[half][m] += second * load(at + BLOCK / 2);
                }
            }
        float s = wide(scale[g]), l = wide(low[g]);
        for (int m = 0; m < rows; m++) {
            whole[m] += s * ((a[0][m] + b[0][m]) + (a[1][m] + b[1][m]));
            rest[m] += l * sums[m * groups + g];
        }
    }
    for (int m = 0; m < rows; m++) y[m * out] = total(whole[m]) + rest[m];
}

void ixc_linear4(const float *x, const uint8_t *q, const uint16_t *scale, const uint16_t *low, const float *sums,
                 float *y, long rows, long in, long out, long group) {
    long groups = in / group;
#pragma omp parallel for schedule(static)
    for (long n = 0; n < out; n++) {
        const uint8_t *qn = q + n * in / 2;
        const uint16_t *sn = scale + n * groups, *ln = low + n * groups;
        long m = 0;
        for (; m + ROWS <= rows; m += ROWS)
            row4(x + m * in, qn, sn, ln, sums + m * groups, y + m * out + n, ROWS, in, out, group);
        for (; m < rows; m++) row4(x + m * in, qn, sn, ln, sums + m * groups, y + m * out + n, 1, in, out, group);
    }
}

static inline __attribute__((always_inline)) void row8(const float *x, const int8_t *q, float scale, float *y,
                                                       int rows, long in, long out) {
    f32 sum[4][ROWS] = {0};
    for (long k = 0; k < in; k += BLOCK)
        for (int part = 0; part < 4; part++) {
            f32 w = signs(q + k + LANES * part);
            for (int m = 0; m < rows; m++) sum[part][m] += w * load(x + m * in + k + LANES * part);
        }
    for (int m = 0; m < rows; m++)
        y[m * out] = scale * total((sum[0][m] + sum[1][m]) + (sum[2][m] + sum[3][m]));
}

void ixc_linear8(const float *x, const int8_t *q, const uint16_t *scale, float *y, long rows, long in, long out) {
#pragma omp parallel for schedule(static)
    for (long n = 0; n < out; n++) {
        const int8_t *qn = q + n * in;
        long m = 0;
        for (; m + ROWS <= rows; m += ROWS) row8(x + m * in, qn, wide(scale[n]), y + m * out + n, ROWS, in, out);
        for (; m < rows; m++) row8(x + m * in, qn, wide(scale[n]), y + m * out + n, 1, in, out);
    }
}

/* Rows `0 .. out` as float32 (out, in), for matrix products of many rows. */
void ixc_unpack4(const uint8_t *q, const uint16_t *scale, const uint16_t *low, float *w, long in, long out,
                 long group) {
    long groups = in / group;
#pragma omp parallel for schedule(static)
    for (long n = 0; n < out; n++)
        for (long k = 0; k < in; k += BLOCK) {
            float s = wide(scale[n * groups + k / group]), l = wide(low[n * groups + k / group]);
            for (int half = 0; half < 2; half++) {
                i32 pair = bytes(q + (n * in + k) / 2 + LANES * half);
                f32 first = s * number(pair & 15) + l, second = s * number(pair >> 4) + l;
                memcpy(w + n * in + k + LANES * half, &first, sizeof first);
                memcpy(w + n * in + k + BLOCK / 2 + LANES * half, &second, sizeof second);
            }
        }
}

void ixc_unpack8(const int8_t *q, const uint16_t *scale, float *w, long in, long out) {
#pragma omp parallel for schedule(static)
    for (long n = 0; n < out; n++)
        for (long k = 0; k < in; k += LANES) {
            f32 values = wide(scale[n]) * signs(q + n * in + k);
            memcpy(w + n * in + k, &values, sizeof values);
        }
}
