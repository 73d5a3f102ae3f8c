/* Products of many rows with 4-bit weights as whole numbers, on a processor with AVX512-VNNI.

   x (rows, in) float32 is rounded to 8 bits, one scale a group, as in `decode.c`; q, scale, low as there; y (rows, out)
   float32. The caller sets y to sums * low; this adds xs * scale * (xq q).

   WIDE rows of weights and STRETCH of their columns are unpacked once, four columns of one row side by side as the
   instruction takes them, and stay in the nearest cache while all of x passes, TALL rows at a time. No sum can overflow:
   a group adds at most 128 times 15 * 127.

   Compiled on first use by `ixc.model.kernels`, beside torch's OpenMP. */

#ifdef __AVX512VNNI__
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 16
#define VECTORS 4
#define WIDE (LANES * VECTORS)
#define TALL 5
#define MOST_ROWS 1020
#define STRETCH 512
#define SMALLEST 32

INLINE __m512 wide(const uint16_t *half, __mmask16 there) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, half)), 16));
}

/* 64 weights of 32 bytes in their order. */
INLINE __m512i weights(const uint8_t *at, const int small) {
    __m256i both = _mm256_loadu_si256((const __m256i *)at), four = _mm256_set1_epi8(15);
    __m256i low = _mm256_and_si256(both, four), high = _mm256_and_si256(_mm256_srli_epi16(both, 4), four);
    __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    return small ? _mm512_shuffle_i64x2(all, all, 0xd8) : all; /* groups of 32: their halves are 16 bytes */
}

/* 16 x 16 numbers of 32 bits, turned. */
INLINE void turn(__m512i r[LANES]) {
    __m512i t[LANES];
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* r[4 j + i]: column 4 l + i of rows 4 j to 4 j + 3 in quarter l */
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

/* `count` columns of `rows` <= WIDE rows of weights to packed[column / 4][vector][row][4]. */
INLINE void pack(const uint8_t *q, __m512i *packed, long rows, long in, long count, const int small) {
    for (int v = 0; v < VECTORS; v++)
        for (long k = 0; k < count; k += 64) {
            __m512i r[LANES];
            for (int i = 0; i < LANES; i++)
                r[i] = v * LANES + i < rows ? weights(q + ((v * LANES + i) * in + k) / 2, small) : _mm512_setzero_si512();
            turn(r);
            for (int i = 0; i < LANES; i++) packed[(k / 4 + i) * VECTORS + v] = r[i];
        }
}

/* As _mm512_dpbusd_epi32, of which gcc 12 keeps half of the sums in memory. */
#define MEET(sum, w, x) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x))

/* sum (rows, WIDE) += `rows` of x over `groups` groups. */
INLINE void tile(const int8_t *x, const float *xs, const __m512i *packed, const float *scale, float *sum,
                 const int rows, long all_rows, long groups, const int group) {
    for (long g = 0; g < groups; g++) {
        __m512i whole[TALL][VECTORS];
        for (int m = 0; m < rows; m++)
            for (int v = 0; v < VECTORS; v++) whole[m][v] = _mm512_setzero_si512();
#pragma GCC unroll 1
        for (long k = 0; k < group / 4; k++) {
            const __m512i *w = packed + (g * (group / 4) + k) * VECTORS;
            __m512i a = w[0], b = w[1], c = w[2], d = w[3];
            __asm__("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d)); /* loaded once, not once a row */
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++) {
                int32_t four;
                memcpy(&four, x + (g * all_rows + m) * group + 4 * k, sizeof four);
                __m512i all = _mm512_set1_epi32(four);
                MEET(whole[m][0], a, all);
                MEET(whole[m][1], b, all);
                MEET(whole[m][2], c, all);
                MEET(whole[m][3], d, all);
            }
        }
        for (int v = 0; v < VECTORS; v++) {
            __m512 s = _mm512_load_ps(scale + g * WIDE + v * LANES);
            for (int m = 0; m < rows; m++) {
                __m512 each = _mm512_mul_ps(s, _mm512_set1_ps(xs[g * all_rows + m]));
                float *at = sum + m * WIDE + v * LANES;
                _mm512_store_ps(at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[m][v]), each, _mm512_load_ps(at)));
            }
        }
        __asm__ volatile("" : : "r"(sum) : "memory"); /* sums stay in memory: the registers are for the rest */
    }
}

/* `rows` of `all_rows` rows of x; `left` rows of weights, at most WIDE. */
INLINE void strip(const int8_t *x, const float *xs, const uint8_t *q, const uint16_t *scale, float *y, long rows,
                  long all_rows, long in, long out, long left, const int group) {
    __m512i packed[STRETCH / 4 * VECTORS];
    float scales[STRETCH / SMALLEST * WIDE] __attribute__((aligned(64)));
    float sum[MOST_ROWS * WIDE] __attribute__((aligned(64)));
    long groups = in / group;
    left = left < WIDE ? left : WIDE;
    for (long m = 0; m < rows; m++) memcpy(sum + m * WIDE, y + m * out, left * sizeof *y);
    for (long k = 0; k < in; k += STRETCH) {
        long count = in - k < STRETCH ? in - k : STRETCH, first = k / group, some = count / group;
        pack(q + k / 2, packed, left, in, count, group == SMALLEST);
        for (long g = 0; g < some; g++)
            for (long n = 0; n < WIDE; n++) {
                uint32_t bits = n < left ? (uint32_t)scale[n * groups + first + g] << 16 : 0;
                memcpy(scales + g * WIDE + n, &bits, sizeof bits);
            }
#define TILE(count) \
    tile(x + (first * all_rows + m) * group, xs + first * all_rows + m, packed, scales, sum + m * WIDE, count, \
         all_rows, some, group)
        for (long m = 0; m < rows; m += TALL) switch (rows - m) {
            case 1: TILE(1); break;
            case 2: TILE(2); break;
            case 3: TILE(3); break;
            case 4: TILE(4); break;
            default: TILE(TALL);
            }
    }
    for (long m = 0; m < rows; m++) memcpy(y + m * out, sum + m * WIDE, left * sizeof *y);
}

/* x (rows, in) to 8 bits: xq (groups, rows, group), and of each group its scale and its rounded sum, xs and sums
   (groups, rows). Rows a power of two apart would share a few lines of the cache. */
void ixc_round8(const float *x, int8_t *xq, float *xs, float *sums, long rows, long in, long group) {
#pragma omp parallel for schedule(static)
    for (long m = 0; m < rows; m++)
        for (long g = 0; g < in / group; g++) {
            const float *at = x + m * in + g * group;
            int8_t *to = xq + (g * rows + m) * group;
            float most = 0;
            for (long k = 0; k < group; k++) most = fmaxf(most, fabsf(at[k]));
            float each = most > 0 ? 127 / most : 0;
            int32_t whole = 0;
            for (long k = 0; k < group; k++) {
                int32_t value = (int32_t)rintf(at[k] * each);
                to[k] = (int8_t)value;
                whole += value;
            }
            xs[g * rows + m] = most / 127;
            sums[g * rows + m] = xs[g * rows + m] * (float)whole;
        }
}

/* in is a multiple of 64 and of the group: 32, 64 or 128. */
void ixc_product4(const int8_t *xq, const float *xs, const uint8_t *q, const uint16_t *scale, float *y, long rows,
                  long in, long out, long group) {
#pragma omp parallel for schedule(static)
    for (long n = 0; n < out; n += WIDE)
        for (long m = 0; m < rows; m += MOST_ROWS) {
            long count = rows - m < MOST_ROWS ? rows - m : MOST_ROWS;
#define STRIP(size) \
    strip(xq + m * size, xs + m, q + n * in / 2, scale + n * (in / group), y + m * out + n, count, rows, in, out, \
          out - n, size)
            if (group == 128) STRIP(128);
            else if (group == 64) STRIP(64);
            else STRIP(SMALLEST);
        }
}
#endif
