/* Attention of many queries in float32, without a mask or causal (torch's reaches a fifth to a third of the processor's
   rate on AMD).

   Keys are packed once for every key head: 32 of them side by side, channel after channel. Then, for 32 queries:
   scores of 256 keys, their exponentials under a running maximum, and the weighted sum of the values.
   Needs AVX-512; elsewhere this file is empty. */

#ifdef __AVX512F__

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define SIDE 32
#define QUERIES 32
#define ROWS 8
#define KEYS 256
#define LANES 16
#define WIDEST 256
#define CLOSED -1e30f

typedef __m512 v16;

/* e^x for x <= 0, to 1e-7 of itself. */
INLINE v16 exponential(v16 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.f));
    v16 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    v16 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    /* log 2 in two parts: what is left is exact */
    v16 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), f);
    v16 p = _mm512_set1_ps(1.f / 720);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f / 120));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f / 24));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f / 6));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(.5f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f));
    return _mm512_scalef_ps(p, n);
}

/* 32 keys -> channel after channel of all of them; keys beyond the last are zero. */
static void packed(const float *key, long apart, long count, long width, float *to) {
    for (long j = 0; j < SIDE; j++)
        for (long d = 0; d < width; d++) to[d * SIDE + j] = j < count ? key[j * apart + d] : 0;
}

/* scores (rows, KEYS) of 32 keys */
INLINE void scored(const float *q, const float *lanes, float *scores, long width) {
    v16 sum[ROWS][2];
    for (int i = 0; i < ROWS; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (long d = 0; d < width; d++) {
        v16 one = _mm512_loadu_ps(lanes + d * SIDE), two = _mm512_loadu_ps(lanes + d * SIDE + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            v16 x = _mm512_set1_ps(q[i * width + d]);
            sum[i][0] = _mm512_fmadd_ps(x, one, sum[i][0]);
            sum[i][1] = _mm512_fmadd_ps(x, two, sum[i][1]);
        }
    }
    for (int i = 0; i < ROWS; i++) {
        _mm512_storeu_ps(scores + i * KEYS, sum[i][0]);
        _mm512_storeu_ps(scores + i * KEYS + LANES, sum[i][1]);
    }
}

/* y (rows, width) += weights (rows, KEYS) of `count` keys times their values, 32 channels from `d` on */
INLINE void weighted(const float *weights, const float *value, long apart, long count, float *y, long width, long d) {
    v16 sum[ROWS][2];
    for (int i = 0; i < ROWS; i++) {
        sum[i][0] = _mm512_loadu_ps(y + i * width + d);
        sum[i][1] = _mm512_loadu_ps(y + i * width + d + LANES);
    }
    for (long j = 0; j < count; j++) {
        v16 one = _mm512_loadu_ps(value + j * apart + d), two = _mm512_loadu_ps(value + j * apart + d + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            v16 x = _mm512_set1_ps(weights[i * KEYS + j]);
            sum[i][0] = _mm512_fmadd_ps(x, one, sum[i][0]);
            sum[i][1] = _mm512_fmadd_ps(x, two, sum[i][1]);
        }
    }
    for (int i = 0; i < ROWS; i++) {
        _mm512_storeu_ps(y + i * width + d, sum[i][0]);
        _mm512_storeu_ps(y + i * width + d + LANES, sum[i][1]);
    }
}

/* Scores of one row, of which `open` count, to weights under a running maximum; returns what earlier sums shrink by. */
INLINE float exponents(float *scores, long keys, long open, float *most, float *sum) {
    v16 high = _mm512_set1_ps(*most), all = _mm512_setzero_ps();
    for (long j = 0; j < keys; j += LANES) {
        v16 x = _mm512_loadu_ps(scores + j);
        if (j + LANES > open) {
            long left = open - j;
            __mmask16 kept = left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
            x = _mm512_mask_blend_ps(kept, _mm512_set1_ps(CLOSED), x);
            _mm512_storeu_ps(scores + j, x);
        }
        high = _mm512_max_ps(high, x);
    }
    float largest = _mm512_reduce_max_ps(high), shrink = *most <= CLOSED ? 0 : expf(*most - largest);
    for (long j = 0; j < keys; j += LANES) {
        v16 x = _mm512_sub_ps(_mm512_loadu_ps(scores + j), _mm512_set1_ps(largest));
        __mmask16 kept = j + LANES <= open ? 0xffff : open <= j ? 0 : (__mmask16)((1u << (open - j)) - 1);
        x = _mm512_maskz_mov_ps(kept, exponential(x));
        all = _mm512_add_ps(all, x);
        _mm512_storeu_ps(scores + j, x);
    }
    *sum = *sum * shrink + _mm512_reduce_add_ps(all);
    *most = largest;
    return shrink;
}

/* 32 queries of a head from row `first` on; a causal query sees the keys up to `before` + its row. */
static void block(const float *q, const float *lanes, const float *v, const long *apart, float *y, long y_apart,
                  long first, long rows, long keys, long width, long before, int causal) {
    float x[QUERIES * WIDEST], sums[QUERIES * WIDEST], scores[QUERIES * KEYS], most[QUERIES], sum[QUERIES];
    float scale = 1 / sqrtf((float)width);
    long padded = (rows + ROWS - 1) / ROWS * ROWS, end = causal ? before + first + rows : keys;
    for (long i = 0; i < padded; i++) {
        for (long d = 0; d < width; d++) x[i * width + d] = i < rows ? q[(first + i) * apart[0] + d] * scale : 0;
        most[i] = CLOSED, sum[i] = 0;
    }
    memset(sums, 0, sizeof(float) * padded * width);
    for (long start = 0; start < end; start += KEYS) {
        long count = end - start < KEYS ? end - start : KEYS;
        for (long j = 0; j < count; j += SIDE)
            for (long i = 0; i < padded; i += ROWS)
                scored(x + i * width, lanes + (start + j) * width, scores + i * KEYS + j, width);
        for (long i = 0; i < padded; i++) {
            long open = causal ? before + first + i + 1 - start : count;
            open = open < 0 || i >= rows ? 0 : open < count ? open : count;
            if (!open) {
                memset(scores + i * KEYS, 0, sizeof(float) * KEYS);
                continue;
            }
            float shrink = exponents(scores + i * KEYS, (count + SIDE - 1) / SIDE * SIDE, open, most + i, sum + i);
            if (shrink != 1)
                for (long d = 0; d < width; d++) sums[i * width + d] *= shrink;
        }
        for (long i = 0; i < padded; i += ROWS)
            for (long d = 0; d < width; d += 2 * LANES)
                weighted(scores + i * KEYS, v + start * apart[2], apart[2], count, sums + i * width, width, d);
    }
    for (long i = 0; i < rows; i++)
        for (long d = 0; d < width; d++) y[(first + i) * y_apart + d] = sums[i * width + d] / sum[i];
}

/* query (batch, heads, length, width), key and value (batch, key_heads, keys, width): strides of batch, head and row,
   three longs each, channels one behind the other. lanes: batch * key_heads * keys rounded up to 32 * width numbers.
   y (batch, length, heads, width). width is a multiple of 32, at most 256. */
void ixc_attend_many(const float *query, const float *key, const float *value, const long *strides, float *lanes,
                     float *y, const long *sizes) {
    long batch = sizes[0], heads = sizes[1], key_heads = sizes[2], length = sizes[3], keys = sizes[4], width = sizes[5];
    long causal = sizes[6], packs = (keys + SIDE - 1) / SIDE, blocks = (length + QUERIES - 1) / QUERIES;
    long apart[3] = {strides[2], strides[5], strides[8]}, group = heads / key_heads;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (long job = 0; job < batch * key_heads * packs; job++) {
            long head = job / packs, at = job % packs * SIDE;
            const float *from = key + head / key_heads * strides[3] + head % key_heads * strides[4] + at * apart[1];
            packed(from, apart[1], keys - at, width, lanes + (head * packs * SIDE + at) * width);
        }
#pragma omp for schedule(dynamic)
        for (long job = batch * heads * blocks - 1; job >= 0; job--) {
            long head = job / blocks % heads, row = job / blocks / heads, first = job % blocks * QUERIES;
            long of = row * key_heads + head / group;
            block(query + row * strides[0] + head * strides[1], lanes + of * packs * SIDE * width,
                  value + row * strides[6] + head / group * strides[7], apart,
                  y + (row * length * heads + head) * width, heads * width, first,
                  length - first < QUERIES ? length - first : QUERIES, keys, width, keys - length, (int)causal);
        }
    }
}

#endif
