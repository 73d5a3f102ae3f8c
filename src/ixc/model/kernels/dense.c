/* A decode step's products with float32 or bfloat16 weights: y (rows, out) = x (rows, in) w (out, in), at the memory's
   rate. x and y are float32, sums too; in is a multiple of STEP. STREAMS rows of the weights are read side by side, for
   memory answers several at once faster than one.

   Compiled on first use by `ixc.model.kernels`, beside torch's OpenMP. */

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define ROWS 4
#define STREAMS 4
#define AHEAD 2048
#define LANES 16
#define STEP 32
#define STRIP 128

typedef float f32 __attribute__((vector_size(4 * LANES)));
typedef uint32_t u32 __attribute__((vector_size(4 * LANES)));
typedef uint16_t u16 __attribute__((vector_size(2 * LANES)));

INLINE f32 number(const float *at) {
    f32 v;
    memcpy(&v, at, sizeof v);
    return v;
}

INLINE f32 weight(const char *w, long i, const int half) {
    u16 v;
    if (!half) return number((const float *)w + i);
    memcpy(&v, (const uint16_t *)w + i, sizeof v);
    return (f32)(__builtin_convertvector(v, u32) << 16);
}

INLINE float total(f32 v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

/* `rows` of x against `streams` rows of the weights, `apart` rows from each other. */
INLINE void tile(const float *x, const char *w, float *y, const int rows, const int streams, long apart, long in,
                 long out, const int half) {
    const long size = half ? 2 : 4, line = 64 / size;
    f32 sum[streams][rows][2];
    for (int t = 0; t < streams; t++)
        for (int m = 0; m < rows; m++) sum[t][m][0] = sum[t][m][1] = (f32){0};
    for (long k = 0; k < in; k += STEP)
        for (int t = 0; t < streams; t++) {
            const char *at = w + (t * apart * in + k) * size;
            for (long ahead = 0; ahead < STEP; ahead += line) __builtin_prefetch(at + AHEAD + ahead * size);
            for (int side = 0; side < 2; side++) {
                f32 each = weight(at, side * LANES, half);
                for (int m = 0; m < rows; m++) sum[t][m][side] += each * number(x + m * in + k + side * LANES);
            }
        }
    for (int t = 0; t < streams; t++)
        for (int m = 0; m < rows; m++) y[m * out + t * apart] = total(sum[t][m][0] + sum[t][m][1]);
}

#define FOR_ROWS(streams, half) \
    switch (rows) { \
    case 1: TILE(1, streams, half); break; \
    case 2: TILE(2, streams, half); break; \
    case 3: TILE(3, streams, half); break; \
    default: TILE(ROWS, streams, half); \
    }

/* rows is at most ROWS. half: the weights are bfloat16. */
void ixc_dense(const float *x, const char *w, float *y, long rows, long in, long out, long half) {
    long size = half ? 2 : 4, strips = (out + STRIP - 1) / STRIP;
#pragma omp parallel for schedule(static)
    for (long strip = 0; strip < strips; strip++) {
        long first = strip * STRIP, left = out - first;
#define TILE(count, streams, half) tile(x, w + n * in * size, y + n, count, streams, STRIP / streams, in, out, half)
        if (left >= STRIP)
            for (long n = first; n < first + STRIP / STREAMS; n++) {
                if (half) FOR_ROWS(STREAMS, 1)
                else FOR_ROWS(STREAMS, 0)
            }
        else
            for (long n = first; n < out; n++) {
                if (half) FOR_ROWS(1, 1)
                else FOR_ROWS(1, 0)
            }
    }
}
