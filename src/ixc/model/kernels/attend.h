/* Some queries of one head over its keys, read once: shared by the kernels that attend. */

#ifndef IXC_ATTEND_H
#define IXC_ATTEND_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef float f32 __attribute__((vector_size(32)));
typedef int32_t i32 __attribute__((vector_size(32)));

INLINE float total(f32 v) {
    typedef float f128 __attribute__((vector_size(16)));
    f128 half = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
    half += __builtin_shufflevector(half, half, 2, 3, 0, 1);
    return half[0] + half[1];
}

#define KEYS 32
#define MOST 8
#define LOWEST -1e30f

/* e^x for x <= 0, to 1e-7 of itself: 2^n times a polynomial on half a binary order around 1. */
INLINE f32 power(f32 x) {
    f32 t = x * 1.44269504f;
    for (int i = 0; i < 8; i++) t[i] = fmaxf(t[i], -126);
    i32 whole = __builtin_convertvector(t - 0.5f, i32);
    f32 part = (t - __builtin_convertvector(whole, f32)) * 0.693147181f;
    f32 y = 0.000198412698f + (f32){0};
    const float rest[] = {0.00138888889f, 0.00833333333f, 0.0416666667f, 0.166666667f, 0.5f, 1, 1};
    for (int i = 0; i < 7; i++) y = rest[i] + part * y;
    return y * (f32)((whole + 127) << 23);
}

INLINE f32 eight(const float *at) {
    f32 v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* Eight numbers from index i on, of float32 or (half) of bfloat16. */
INLINE f32 eight_of(const void *from, long i, const int half) {
    typedef uint16_t u16 __attribute__((vector_size(16)));
    typedef uint32_t u32 __attribute__((vector_size(32)));
    u16 v;
    if (!half) return eight((const float *)from + i);
    memcpy(&v, (const uint16_t *)from + i, sizeof v);
    return (f32)(__builtin_convertvector(v, u32) << 16);
}

/* Some queries of one key head over `keys` of its keys: sum of weights * v in y (group, width), the largest score and
   the sum of weights in most and sum. Keys and values are float32, or (half) bfloat16. */
INLINE void attend_part(const float *q, const char *k, const char *v, float *y, float *most, float *sum,
                        const int group, long keys, const long width, float scale, const int half) {
    const long size = half ? sizeof(uint16_t) : sizeof(float);
    float score[MOST][KEYS] __attribute__((aligned(32)));
    for (int g = 0; g < group; g++) most[g] = LOWEST, sum[g] = 0;
    memset(y, 0, sizeof(float) * group * width);
    for (long start = 0; start < keys; start += KEYS) {
        long count = keys - start < KEYS ? keys - start : KEYS;
        for (long t = 0; t < count; t++) {
            f32 dot[MOST] = {{0}};
            for (long d = 0; d < width; d += 16) {  /* a line of memory each */
                __builtin_prefetch(v + ((start + t) * width + d) * size);
                __builtin_prefetch(k + ((start + KEYS + t) * width + d) * size);
            }
            for (long d = 0; d < width; d += 8) {
                f32 each = eight_of(k, (start + t) * width + d, half);
                for (int g = 0; g < group; g++) dot[g] += eight(q + g * width + d) * each;
            }
            for (int g = 0; g < group; g++) score[g][t] = total(dot[g]) * scale;
        }
        for (int g = 0; g < group; g++) {
            float high = most[g];
            for (long t = count; t < KEYS; t++) score[g][t] = LOWEST;
            for (long t = 0; t < KEYS; t++) high = fmaxf(high, score[g][t]);
            float shrink = expf(fmaxf(most[g] - high, -100));
            f32 all = {0};
            for (long t = 0; t < KEYS; t += 8) {
                f32 w = power(eight(score[g] + t) - high);
                all += w;
                memcpy(score[g] + t, &w, sizeof w);
            }
            sum[g] = sum[g] * shrink + total(all);
            if (high > most[g])
                for (long d = 0; d < width; d++) y[g * width + d] *= shrink;
            most[g] = high;
        }
        for (long d = 0; d < width; d += 16) {
            f32 a[MOST][2];
            for (int g = 0; g < group; g++) memcpy(a[g], y + g * width + d, sizeof a[g]);
            for (long t = 0; t < count; t++)
                for (int side = 0; side < 2; side++) {
                    f32 b = eight_of(v, (start + t) * width + d + 8 * side, half);
                    for (int g = 0; g < group; g++) a[g][side] += score[g][t] * b;
                }
            for (int g = 0; g < group; g++) memcpy(y + g * width + d, a[g], sizeof a[g]);
        }
    }
}

#endif
