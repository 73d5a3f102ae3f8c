/* What a decode step does on a CPU: linear maps over small weights, by products of whole numbers, and attention of one
   query (at the end).

   x (rows, in) float32, y (rows, out) float32; in is a multiple of 32.
   8 bits   q (out, in) int8                      scale (out) bfloat16                   w = q * scale
            x is rounded to 16 bits, one scale a row: next to nothing beside the rounding of the weights.
   4 bits   q (out, in / 2) uint8, two a byte     scale, low (out, in / group) bfloat16   w = q * scale + low
            byte i of 32 holds weight i of its 64 in the low nibble and weight i + 32 in the high one (groups of 32:
            byte i of 16, weights i and i + 16).
            x is rounded to 8 bits, one scale a group; `low` meets the sum of the group's rounded x.

   No sum can overflow: 4 bits add at most 4 times 2 * 15 * 127 in 16 bits, 8 bits 128 times 2 * 127 * 32767 in 32.
   A weight is unpacked once for up to ROWS rows of x, and STRIP rows of weights stay in a core's cache while all of x
   passes. Compiled on first use by `ixc.model.kernels`, beside torch's OpenMP. */

#include "attend.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define ROWS 4
#define STREAMS8 4
#define STREAMS4 2
#define AHEAD 1024
#define EIGHT 8
#define STRIP 128
#define BLOCK 32
#define LONGEST 2048

typedef int16_t i16 __attribute__((vector_size(32)));
typedef uint8_t u8 __attribute__((vector_size(32)));

#ifdef __AVX2__
/* 32 weights of 16 bytes: both lanes take the same bytes, the upper one shifts. */
INLINE u8 nibbles(const uint8_t *at) {
    __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)at));
    __m256i moved = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    return (u8)_mm256_and_si256(moved, _mm256_set1_epi8(15));
}
/* 64 weights of 32 bytes. */
INLINE void halves(const uint8_t *at, u8 *first, u8 *second) {
    __m256i both = _mm256_loadu_si256((const __m256i *)at);
    *first = (u8)_mm256_and_si256(both, _mm256_set1_epi8(15));
    *second = (u8)_mm256_and_si256(_mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
}
INLINE i16 widened(const int8_t *at) { return (i16)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)at)); }
INLINE i16 pairs8(u8 w, const int8_t *x) {
    return (i16)_mm256_maddubs_epi16((__m256i)w, _mm256_loadu_si256((const __m256i *)x));
}
INLINE i32 pairs16(i16 w, const int16_t *x) {
    return (i32)_mm256_madd_epi16((__m256i)w, _mm256_loadu_si256((const __m256i *)x));
}
INLINE i32 paired(i16 v) { return (i32)_mm256_madd_epi16((__m256i)v, _mm256_set1_epi16(1)); }
INLINE f32 number(i32 v) { return (f32)_mm256_cvtepi32_ps((__m256i)v); }
#else
INLINE u8 nibbles(const uint8_t *at) {
    u8 w;
    for (int i = 0; i < 16; i++) w[i] = at[i] & 15, w[i + 16] = at[i] >> 4;
    return w;
}
INLINE void halves(const uint8_t *at, u8 *first, u8 *second) {
    for (int i = 0; i < 32; i++) (*first)[i] = at[i] & 15, (*second)[i] = at[i] >> 4;
}
INLINE i16 widened(const int8_t *at) {
    i16 w;
    for (int i = 0; i < 16; i++) w[i] = at[i];
    return w;
}
INLINE i16 pairs8(u8 w, const int8_t *x) {
    i16 v;
    for (int i = 0; i < 16; i++) v[i] = (int16_t)(w[2 * i] * x[2 * i] + w[2 * i + 1] * x[2 * i + 1]);
    return v;
}
INLINE i32 pairs16(i16 w, const int16_t *x) {
    i32 v;
    for (int i = 0; i < 8; i++) v[i] = w[2 * i] * x[2 * i] + w[2 * i + 1] * x[2 * i + 1];
    return v;
}
INLINE i32 paired(i16 v) {
    i32 w;
    for (int i = 0; i < 8; i++) w[i] = v[2 * i] + v[2 * i + 1];
    return w;
}
INLINE f32 number(i32 v) {
    f32 w;
    for (int i = 0; i < 8; i++) w[i] = (float)v[i];
    return w;
}
#endif

INLINE float wide(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* bfloat16 is the upper half of a float32; written so that gcc makes vectors of it. */
INLINE void widen(const uint16_t *half, float *values, long count) {
    typedef uint32_t __attribute__((may_alias)) bits;
    for (long i = 0; i < count; i++) ((bits *)values)[i] = (uint32_t)half[i] << 16;
}

INLINE float largest(const float *x, long count) {
    float most = 0;
    for (long k = 0; k < count; k++) most = fmaxf(most, fabsf(x[k]));
    return most;
}

static void round16(const float *x, int16_t *q, float *scale, long in) {
    float most = largest(x, in), each = most > 0 ? 32767 / most : 0;
    *scale = most / 32767;
    for (long k = 0; k < in; k++) q[k] = (int16_t)rintf(x[k] * each);
}

static void round8(const float *x, int8_t *q, float *scale, float *sum, long in, long group) {
    for (long g = 0; g < in / group; g++) {
        const float *at = x + g * group;
        float most = largest(at, group), each = most > 0 ? 127 / most : 0;
        int32_t whole = 0;
        for (long k = 0; k < group; k++) {
            int8_t value = (int8_t)rintf(at[k] * each);
            q[g * group + k] = value;
            whole += value;
        }
        scale[g] = most / 127;
        sum[g] = scale[g] * (float)whole;
    }
}

/* `count` groups, at most EIGHT; sums of w * x go to `whole`, of low * x to `rest`. */
INLINE void groups4(const int8_t *x, const float *xs, const float *sums, const uint8_t *q, const uint16_t *scale,
                    const uint16_t *low, f32 *whole, f32 *rest, const int rows, long in, const int group,
                    const int count) {
    long groups = in / group;
    float s[EIGHT] = {0}, l[EIGHT] = {0}, both[rows][EIGHT];
    widen(scale, s, count);
    widen(low, l, count);
    for (int m = 0; m < rows; m++)
        for (int g = 0; g < count; g++) {
            both[m][g] = s[g] * xs[m * groups + g];
            rest[m][g] += l[g] * sums[m * groups + g];
        }
    for (int g = 0; g < count; g++) {
        u8 w[4];
        __builtin_prefetch(q + g * group / 2 + AHEAD);
        if (group == BLOCK) w[0] = nibbles(q + g * group / 2);
        else
            for (int p = 0; p < group / BLOCK; p += 2) halves(q + (g * group + p * BLOCK) / 2, w + p, w + p + 1);
        for (int m = 0; m < rows; m++) {
            const int8_t *at = x + m * in + g * group;
            i16 sum = pairs8(w[0], at);
            for (int p = 1; p < group / BLOCK; p++) sum += pairs8(w[p], at + p * BLOCK);
            whole[m] += both[m][g] * number(paired(sum));
        }
    }
}

/* rows of x against the rows n, n + apart, ... of the weights: as many streams are read side by side, for memory answers
   several at once faster than one. */
INLINE void tile4(const int8_t *x, const float *xs, const float *sums, const uint8_t *q, const uint16_t *scale,
                  const uint16_t *low, float *y, const int rows, const int streams, long apart, long in, long out,
                  const int group) {
    long groups = in / group, g = 0;
    f32 whole[streams][rows], rest[streams][rows];
    for (int t = 0; t < streams; t++)
        for (int m = 0; m < rows; m++) whole[t][m] = rest[t][m] = (f32){0};
#define GROUPS(count) \
    for (int t = 0; t < streams; t++) \
    groups4(x + g * group, xs + g, sums + g, q + (t * apart * in + g * group) / 2, scale + t * apart * groups + g, \
            low + t * apart * groups + g, whole[t], rest[t], rows, in, group, count)
    for (; g + EIGHT <= groups; g += EIGHT) GROUPS(EIGHT);
    for (; g < groups; g++) GROUPS(1);
    for (int t = 0; t < streams; t++)
        for (int m = 0; m < rows; m++) y[m * out + t * apart] = total(whole[t][m]) + total(rest[t][m]);
}

INLINE void tile8(const int16_t *x, const float *xs, const int8_t *q, const uint16_t *scale, float *y, const int rows,
                  const int streams, long apart, long in, long out) {
    f32 whole[streams][rows];
    for (int t = 0; t < streams; t++)
        for (int m = 0; m < rows; m++) whole[t][m] = (f32){0};
    for (long start = 0; start < in; start += LONGEST) {
        long stop = start + LONGEST < in ? start + LONGEST : in;
        i32 sum[streams][rows];
        for (int t = 0; t < streams; t++)
            for (int m = 0; m < rows; m++) sum[t][m] = (i32){0};
        for (long k = start; k < stop; k += BLOCK)
            for (int t = 0; t < streams; t++)
                for (long half = k; half < k + BLOCK; half += BLOCK / 2) {
                    i16 w = widened(q + t * apart * in + half);
                    for (int m = 0; m < rows; m++) sum[t][m] += pairs16(w, x + m * in + half);
                }
        for (int t = 0; t < streams; t++)
            for (int m = 0; m < rows; m++) whole[t][m] += number(sum[t][m]);
    }
    for (int t = 0; t < streams; t++)
        for (int m = 0; m < rows; m++) y[m * out + t * apart] = wide(scale[t * apart]) * xs[m] * total(whole[t][m]);
}

/* Strip after strip of the weights, all rows of x in each. Few rows take `streams` of a whole strip side by side. */
#define FOR_STRIPS(rows, streams, tile) \
    _Pragma("omp parallel for schedule(static)") for (long strip = 0; strip < out; strip += STRIP) { \
        long end = strip + STRIP < out ? strip + STRIP : out; \
        if (rows <= ROWS && end - strip == STRIP) { \
            for (long m = 0, n = strip; n < strip + STRIP / streams; n++) FOR_ROWS(rows, streams, tile) \
        } else { \
            for (long m = 0; m < rows; m += ROWS) \
                for (long n = strip; n < end; n++) FOR_ROWS(rows - m, 1, tile) \
        } \
    }

#define FOR_ROWS(left, streams, tile) \
    switch (left) { \
    case 1: tile(1, streams); break; \
    case 2: tile(2, streams); break; \
    case 3: tile(3, streams); break; \
    default: tile(ROWS, streams); \
    }

/* y = x w; xq (rows, in) int8, xs and sums (rows, in / group) are written over. */
void ixc_linear4(const float *x, const uint8_t *q, const uint16_t *scale, const uint16_t *low, int8_t *xq, float *xs,
                 float *sums, float *y, long rows, long in, long out, long group) {
    long groups = in / group;
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (long m = 0; m < rows; m++) round8(x + m * in, xq + m * in, xs + m * groups, sums + m * groups, in, group);
#define TILE(count, streams, size) \
    tile4(xq + m * in, xs + m * groups, sums + m * groups, q + n * in / 2, scale + n * groups, low + n * groups, \
          y + m * out + n, count, streams, STRIP / streams, in, out, size)
#define TILE128(count, streams) TILE(count, streams, 128)
#define TILE64(count, streams) TILE(count, streams, 64)
#define TILE32(count, streams) TILE(count, streams, 32)
    if (group == 128) FOR_STRIPS(rows, STREAMS4, TILE128)
    else if (group == 64) FOR_STRIPS(rows, STREAMS4, TILE64)
    else FOR_STRIPS(rows, STREAMS4, TILE32)
}

/* y = x w; xq (rows, in) int16 and xs (rows) are written over. */
void ixc_linear8(const float *x, const int8_t *q, const uint16_t *scale, int16_t *xq, float *xs, float *y, long rows,
                 long in, long out) {
#pragma omp parallel for schedule(static) if (rows > ROWS)
    for (long m = 0; m < rows; m++) round16(x + m * in, xq + m * in, xs + m, in);
#define TILE8(count, streams) \
    tile8(xq + m * in, xs + m, q + n * in, scale + n, y + m * out + n, count, streams, STRIP / streams, in, out)
    FOR_STRIPS(rows, STREAMS8, TILE8)
}

/* y (heads, group, width) = softmax(q k scale) v; rows of keys and values of one head lie one behind the other, heads
   k_head and v_head numbers apart. Keys are cut into chunks, so that there is work for every core; parts holds
   (heads * chunks, group, width + 2). width is a multiple of 32, at most 256; group at most 8. half: keys and values are
   bfloat16, not float32. */
void ixc_attend(const float *q, const char *k, const char *v, float *parts, float *y, long heads, long group, long keys,
                long width, long k_head, long v_head, long chunk, long half) {
    long chunks = (keys + chunk - 1) / chunk, size = group * (width + 2), each = half ? 2 : 4;
    float scale = 1 / sqrtf((float)width);
#pragma omp parallel for schedule(static)
    for (long job = 0; job < heads * chunks; job++) {
        long head = job / chunks, start = job % chunks * chunk, left = keys - start;
        float *at = parts + job * size;
#define PART(group, width, half) \
    attend_part(q + head * group * width, k + (head * k_head + start * width) * each, \
                v + (head * v_head + start * width) * each, at, at + group * width, at + group * (width + 1), group, \
                left < chunk ? left : chunk, width, scale, half)
        if (group == 4 && width == 128 && !half) PART(4, 128, 0);
        else if (group == 4 && width == 128) PART(4, 128, 1);
        else if (half) PART(group, width, 1);
        else PART(group, width, 0);
    }
    for (long head = 0; head < heads; head++)
        for (long g = 0; g < group; g++) {
            float high = LOWEST, sum = 0, *to = y + (head * group + g) * width;
            for (long c = 0; c < chunks; c++) high = fmaxf(high, parts[(head * chunks + c) * size + group * width + g]);
            memset(to, 0, sizeof(float) * width);
            for (long c = 0; c < chunks; c++) {
                const float *at = parts + (head * chunks + c) * size;
                float share = expf(at[group * width + g] - high);
                sum += share * at[group * (width + 1) + g];
                for (long d = 0; d < width; d++) to[d] += share * at[g * width + d];
            }
            for (long d = 0; d < width; d++) to[d] /= sum;
        }
}
