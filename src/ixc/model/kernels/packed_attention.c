/* Attention of packed questions on processors with products of bf16 pairs (AVX512-BF16), forward and backward.

   Rows are the tokens of  [ prefix | question 1 | question 2 | ... ]:  P of the prefix, then Q questions of T each.
   A row of the prefix sees the prefix up to itself (all of it where `causal` is 0); a row of a question sees the whole
   prefix and its own question up to itself. Heads are WIDTH wide. Queries, keys and values are float32, rounded to bf16
   for the products; sums, exponentials and results are float32.

   Inside, the prefix and every question are padded to whole groups of GROUP rows, so a block of GROUP rows sees one or
   two runs of whole groups of keys, of which only the last of a run needs a mask. All scores of a block are kept
   (GROUP x keys, in the core's cache), so softmax is the plain one: maximum, exponentials, sum.

   Packings of a matrix (rows, WIDTH), two bf16 in 32 bits:
       lanes   [rows / 16][WIDTH / 2][16]    channels 2c, 2c + 1 of 16 rows       a product of rows with rows
       steps   [rows / 2][WIDTH]             rows 2r, 2r + 1, all channels        a sum over rows
       plain   [rows][WIDTH / 2]             channels 2c, 2c + 1 of one row       broadcast against lanes */

#ifdef __AVX512BF16__

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 32
#define GROUP 16
#define HALF 8
#define CLOSED -1e30f
#define INLINE static inline __attribute__((always_inline))
#define DOT(sum, x, y) _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(y))

typedef __m512 f32;

typedef struct {
    int prefix, questions, length, causal; /* as called */
    int padded, each, rows;                /* prefix and one question in whole groups, and all of them */
} Shape;

/* Two runs of groups of keys that a block of rows sees: where they begin, how many; the second may be empty. */
typedef struct {
    int first[2], count[2];
} Runs;

INLINE int whole(int n) { return (n + GROUP - 1) / GROUP * GROUP; }

static Shape shaped(int prefix, int questions, int length, int causal) {
    Shape s = {prefix, questions, length, causal, whole(prefix), whole(length), 0};
    s.rows = s.padded + questions * s.each;
    return s;
}

/* The caller's row of a padded one; -1 where it is padding. */
INLINE int row_of(const Shape *s, int r) {
    if (r < s->padded) return r < s->prefix ? r : -1;
    int question = (r - s->padded) / s->each, t = (r - s->padded) % s->each;
    return t < s->length ? s->prefix + question * s->length + t : -1;
}

INLINE Runs runs_of(const Shape *s, int row) {
    Runs k = {{0, 0}, {s->padded / GROUP, 0}};
    if (row < s->padded) {
        if (s->causal) k.count[0] = row / GROUP + 1;
    } else {
        int start = s->padded + (row - s->padded) / s->each * s->each;
        k.first[1] = start / GROUP;
        k.count[1] = (row - start) / GROUP + 1;
    }
    return k;
}

/* Group i of a run holds keys that some row of the block does not see. */
INLINE int partial(const Shape *s, const Runs *k, int run, int i, int row) {
    if (i != k->count[run] - 1) return 0;
    return run == 1 || (row < s->padded && s->causal) || s->prefix < s->padded;
}

/* Which keys of a group a row sees. */
INLINE __mmask16 seen(const Shape *s, int row, int group) {
    int key = group * GROUP, n = row + 1 - key;
    if (key < s->padded) {
        int end = row < s->padded && s->causal && row + 1 < s->prefix ? row + 1 : s->prefix;
        n = end - key;
    }
    return n >= GROUP ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

/* Rounded to nearest, halves up; x in the low half of each 32 bits, y in the high one. */
INLINE __m512i paired(f32 x, f32 y) {
    __m512i half = _mm512_set1_epi32(0x8000), high = _mm512_set1_epi32((int)0xffff0000);
    __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(x), half), 16);
    return _mm512_or_si512(low, _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(y), half), high));
}

INLINE uint32_t rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits + 0x8000u) >> 16;
}

/* e^x for x <= 0, within 3e-7 of it; far below it becomes zero. */
INLINE f32 exponential(f32 x) {
    f32 t = _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-100.f)), _mm512_set1_ps(1.44269504f));
    f32 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(t, n);
    f32 p = _mm512_set1_ps(1.3333558e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f)), n);
}

/* One head's rows, `step` floats apart, times `scale`, in padded order; padding is zero. */
static void gathered(const Shape *s, const float *x, long step, float scale, float *out) {
    for (int r = 0; r < s->rows; r++) {
        int at = row_of(s, r);
        for (int d = 0; d < WIDTH; d++) out[(long)r * WIDTH + d] = at < 0 ? 0.f : x[at * step + d] * scale;
    }
}

static void pack_plain(int rows, const float *x, uint32_t *out) {
    for (long i = 0; i < (long)rows * WIDTH / 2; i++) out[i] = rounded(x[2 * i]) | rounded(x[2 * i + 1]) << 16;
}

static void pack_lanes(int rows, const float *x, uint32_t *out) {
    for (int g = 0; g < rows / GROUP; g++)
        for (int c = 0; c < WIDTH / 2; c++)
            for (int j = 0; j < GROUP; j++) {
                const float *two = x + (long)(g * GROUP + j) * WIDTH + 2 * c;
                out[((long)g * WIDTH / 2 + c) * GROUP + j] = rounded(two[0]) | rounded(two[1]) << 16;
            }
}

static void pack_steps(int rows, const float *x, uint32_t *out) {
    for (int p = 0; p < rows / 2; p++)
        for (int d = 0; d < WIDTH; d += GROUP) {
            const float *two = x + (long)2 * p * WIDTH + d;
            _mm512_storeu_si512(out + p * WIDTH + d, paired(_mm512_loadu_ps(two), _mm512_loadu_ps(two + WIDTH)));
        }
}

/* A block's plain rows times the lanes of `many` (1 or 2) groups -> out[row * step + key]. */
INLINE void products(const uint32_t *plain, const uint32_t *lanes, int many, float *out, long step) {
    for (int half = 0; half < GROUP; half += HALF) {
        f32 sum[HALF][2];
        for (int i = 0; i < HALF; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
        for (int c = 0; c < WIDTH / 2; c++) {
            __m512i one = _mm512_loadu_si512(lanes + c * GROUP), two = one;
            if (many > 1) two = _mm512_loadu_si512(lanes + (WIDTH / 2 + c) * GROUP);
#pragma GCC unroll 8
            for (int i = 0; i < HALF; i++) {
                __m512i x = _mm512_set1_epi32((int)plain[(half + i) * WIDTH / 2 + c]);
                sum[i][0] = DOT(sum[i][0], x, one);
                if (many > 1) sum[i][1] = DOT(sum[i][1], x, two);
            }
        }
        for (int i = 0; i < HALF; i++)
            for (int j = 0; j < many; j++) _mm512_storeu_ps(out + (half + i) * step + j * GROUP, sum[i][j]);
    }
}

static void all_products(const Runs *k, const uint32_t *plain, const uint32_t *lanes, float *out, long step) {
    for (int run = 0; run < 2; run++) {
        int g = k->first[run], end = g + k->count[run];
        for (; g + 1 < end; g += 2, out += 2 * GROUP) products(plain, lanes + (long)g * WIDTH * HALF, 2, out, step);
        for (; g < end; g++, out += GROUP) products(plain, lanes + (long)g * WIDTH * HALF, 1, out, step);
    }
}

/* sums[row][2] += weights of a block, two keys in 32 bits and `step` of them a row, times the steps of the keys. */
INLINE void weighted(const uint32_t *weights, long step, const uint32_t *steps, int pairs, f32 sums[GROUP][2]) {
    for (int half = 0; half < GROUP; half += HALF) {
        f32 sum[HALF][2];
        for (int i = 0; i < HALF; i++) sum[i][0] = sums[half + i][0], sum[i][1] = sums[half + i][1];
        for (int j = 0; j < pairs; j++) {
            __m512i low = _mm512_loadu_si512(steps + (long)j * WIDTH);
            __m512i high = _mm512_loadu_si512(steps + (long)j * WIDTH + GROUP);
#pragma GCC unroll 8
            for (int i = 0; i < HALF; i++) {
                __m512i x = _mm512_set1_epi32((int)weights[(half + i) * step + j]);
                sum[i][0] = DOT(sum[i][0], x, low);
                sum[i][1] = DOT(sum[i][1], x, high);
            }
        }
        for (int i = 0; i < HALF; i++) sums[half + i][0] = sum[i][0], sums[half + i][1] = sum[i][1];
    }
}

static void all_weighted(const Runs *k, const uint32_t *weights, long step, const uint32_t *steps,
                         f32 sums[GROUP][2]) {
    for (int i = 0; i < GROUP; i++) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
    for (int run = 0; run < 2; weights += k->count[run] * HALF, run++)
        weighted(weights, step, steps + (long)k->first[run] * HALF * WIDTH, k->count[run] * HALF, sums);
}

/* out[key] += over a block's pairs of rows: weights[pair][key] times the steps of the rows. */
static void returned(const uint32_t *weights, long step, const uint32_t *steps, float *out, int keys) {
    for (int j = 0; j < keys; j += HALF) {
        f32 sum[HALF][2];
        float *at = out + (long)j * WIDTH;
        for (int i = 0; i < HALF; i++) {
            sum[i][0] = _mm512_loadu_ps(at + i * WIDTH);
            sum[i][1] = _mm512_loadu_ps(at + i * WIDTH + GROUP);
        }
        for (int p = 0; p < GROUP / 2; p++) {
            __m512i low = _mm512_loadu_si512(steps + p * WIDTH), high = _mm512_loadu_si512(steps + p * WIDTH + GROUP);
#pragma GCC unroll 8
            for (int i = 0; i < HALF; i++) {
                __m512i x = _mm512_set1_epi32((int)weights[p * step + j + i]);
                sum[i][0] = DOT(sum[i][0], x, low);
                sum[i][1] = DOT(sum[i][1], x, high);
            }
        }
        for (int i = 0; i < HALF; i++) {
            _mm512_storeu_ps(at + i * WIDTH, sum[i][0]);
            _mm512_storeu_ps(at + i * WIDTH + GROUP, sum[i][1]);
        }
    }
}

/* The block's rows that are no padding, times factors. */
INLINE void written(const Shape *s, int row, f32 sums[GROUP][2], const float *factors, float *out) {
    for (int i = 0; i < GROUP; i++) {
        int at = row_of(s, row + i);
        if (at < 0) continue;
        for (int d = 0; d < 2; d++)
            _mm512_storeu_ps(out + (long)at * WIDTH + d * GROUP, _mm512_mul_ps(sums[i][d], _mm512_set1_ps(factors[i])));
    }
}

INLINE void halved(void *at, f32 x) { _mm256_storeu_si256(at, (__m256i)_mm512_cvtneps_pbh(x)); }

/* Softmax of one row of scores -> bf16 weights that are not yet divided; their sum; the logarithm of all. */
INLINE float softmax(const Shape *s, const Runs *k, int block, int row, float *scores, uint16_t *weights, float *all) {
    f32 most = _mm512_set1_ps(CLOSED), sum = _mm512_setzero_ps();
    int keys = 0;
    for (int run = 0; run < 2; run++)
        for (int g = 0; g < k->count[run]; g++, keys += GROUP) {
            f32 x = _mm512_loadu_ps(scores + keys);
            if (partial(s, k, run, g, block)) {
                x = _mm512_mask_blend_ps(seen(s, row, k->first[run] + g), _mm512_set1_ps(CLOSED), x);
                _mm512_storeu_ps(scores + keys, x);
            }
            most = _mm512_max_ps(most, x);
        }
    float largest = _mm512_reduce_max_ps(most);
    for (int c = 0; c < keys; c += GROUP) {
        f32 x = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + c), _mm512_set1_ps(largest)));
        sum = _mm512_add_ps(sum, x);
        halved(weights + c, x);
    }
    float total = _mm512_reduce_add_ps(sum);
    *all = largest + logf(total);
    return total;
}

static void *room(long bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

static void forward(const Shape *s, const float *query, const float *key, const float *value, const long *step,
                    float scale, float *out, float *all) {
    long keys = s->padded + s->each + 2 * GROUP, packed = (long)s->rows * WIDTH * 2;
    float *x = room(2 * packed), *scores = room(GROUP * keys * 4);
    uint32_t *lanes = room(packed), *steps = room(packed), *plain = room(packed), *weights = room(GROUP * keys * 2);
    gathered(s, key, step[1], 1.f, x), pack_lanes(s->rows, x, lanes);
    gathered(s, value, step[2], 1.f, x), pack_steps(s->rows, x, steps);
    gathered(s, query, step[0], scale, x), pack_plain(s->rows, x, plain);
    for (int row = 0; row < s->rows; row += GROUP) {
        Runs k = runs_of(s, row);
        float share[GROUP];
        f32 sums[GROUP][2];
        all_products(&k, plain + (long)row * WIDTH / 2, lanes, scores, keys);
        for (int i = 0; i < GROUP; i++) {
            uint16_t *mine = (uint16_t *)(weights + i * keys / 2);
            share[i] = 1.f / softmax(s, &k, row, row + i, scores + i * keys, mine, all + row + i);
        }
        all_weighted(&k, weights, keys / 2, steps, sums);
        written(s, row, sums, share, out);
    }
    free(x), free(scores), free(lanes), free(steps), free(plain), free(weights);
}

/* Of two rows of a block: weights again from scores, gradients of scores from gradients of weights. */
INLINE void differentiated(const Shape *s, const Runs *k, int block, int i, const float *scores, const float *grads,
                           long keys, const float *all, const float *mean, uint32_t *pairs, uint32_t *pair_grads,
                           uint32_t *row_grads) {
    int c = 0;
    for (int run = 0; run < 2; run++)
        for (int g = 0; g < k->count[run]; g++, c += GROUP) {
            f32 w[2], d[2];
            for (int j = 0; j < 2; j++) {
                int row = block + i + j;
                w[j] = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + (i + j) * keys + c), _mm512_set1_ps(all[row])));
                if (partial(s, k, run, g, block)) w[j] = _mm512_maskz_mov_ps(seen(s, row, k->first[run] + g), w[j]);
                f32 far = _mm512_sub_ps(_mm512_loadu_ps(grads + (i + j) * keys + c), _mm512_set1_ps(mean[row]));
                d[j] = _mm512_mul_ps(w[j], far);
                halved((uint16_t *)(row_grads + (i + j) * keys / 2) + c, d[j]);
            }
            _mm512_storeu_si512(pairs + i / 2 * keys + c, paired(w[0], w[1]));
            _mm512_storeu_si512(pair_grads + i / 2 * keys + c, paired(d[0], d[1]));
        }
}

/* step: rows of query, key, value and grad are so many floats apart; those of out and the results WIDTH. */
static void backward(const Shape *s, const float *grad, const float *out, const float *all, const float *query,
                     const float *key, const float *value, const long *step, float scale, float *to_query,
                     float *to_key, float *to_value) {
    long keys = s->padded + s->each + 2 * GROUP, packed = (long)s->rows * WIDTH * 2;
    float *x = room(2 * packed), *keyed = room(2 * packed), *valued = room(2 * packed), *mean = room(s->rows * 4L);
    uint32_t *key_lanes = room(packed), *key_steps = room(packed), *value_lanes = room(packed);
    uint32_t *query_plain = room(packed), *query_steps = room(packed);
    uint32_t *grad_plain = room(packed), *grad_steps = room(packed);
    float *scores = room(GROUP * keys * 4), *grads = room(GROUP * keys * 4), factors[GROUP];
    uint32_t *pairs = room(GROUP * keys * 2), *pair_grads = room(GROUP * keys * 2), *row_grads = room(GROUP * keys * 2);
    gathered(s, key, step[1], 1.f, x), pack_lanes(s->rows, x, key_lanes), pack_steps(s->rows, x, key_steps);
    gathered(s, value, step[2], 1.f, x), pack_lanes(s->rows, x, value_lanes);
    gathered(s, query, step[0], scale, x), pack_plain(s->rows, x, query_plain), pack_steps(s->rows, x, query_steps);
    gathered(s, grad, step[3], 1.f, x), pack_plain(s->rows, x, grad_plain), pack_steps(s->rows, x, grad_steps);
    for (int r = 0; r < s->rows; r++) {
        int at = row_of(s, r);
        mean[r] = 0.f;
        for (int d = 0; at >= 0 && d < WIDTH; d++) mean[r] += x[(long)r * WIDTH + d] * out[(long)at * WIDTH + d];
    }
    memset(keyed, 0, 2 * packed), memset(valued, 0, 2 * packed);
    for (int i = 0; i < GROUP; i++) factors[i] = scale;
    for (int row = 0; row < s->rows; row += GROUP) {
        Runs k = runs_of(s, row);
        f32 sums[GROUP][2];
        all_products(&k, query_plain + (long)row * WIDTH / 2, key_lanes, scores, keys);
        all_products(&k, grad_plain + (long)row * WIDTH / 2, value_lanes, grads, keys);
        for (int i = 0; i < GROUP; i += 2)
            differentiated(s, &k, row, i, scores, grads, keys, all, mean, pairs, pair_grads, row_grads);
        all_weighted(&k, row_grads, keys / 2, key_steps, sums);
        written(s, row, sums, factors, to_query);
        long from = 0, steps = (long)row * WIDTH / 2;
        for (int run = 0; run < 2; run++) {
            long first = (long)k.first[run] * GROUP * WIDTH, many = k.count[run] * GROUP;
            returned(pairs + from, keys, grad_steps + steps, valued + first, many);
            returned(pair_grads + from, keys, query_steps + steps, keyed + first, many);
            from += many;
        }
    }
    for (int r = 0; r < s->rows; r++) {
        int at = row_of(s, r);
        if (at < 0) continue;
        memcpy(to_key + (long)at * WIDTH, keyed + (long)r * WIDTH, WIDTH * 4);
        memcpy(to_value + (long)at * WIDTH, valued + (long)r * WIDTH, WIDTH * 4);
    }
    free(x), free(keyed), free(valued), free(mean), free(key_lanes), free(key_steps), free(value_lanes);
    free(query_plain), free(query_steps), free(grad_plain), free(grad_steps), free(scores), free(grads);
    free(pairs), free(pair_grads), free(row_grads);
}

/* query, key, value and grad: strides of batch, head and row, three longs each; out and the results are contiguous
   (batch, heads, rows, WIDTH), all is (batch, heads, padded rows). */
#define AT(x, n) ((x) + batch * strides[3 * (n)] + head * strides[3 * (n) + 1])

void ixc_packed_forward(const float *query, const float *key, const float *value, const long *strides, float *out,
                        float *all, long batches, long heads, long prefix, long questions, long length, long causal,
                        float scale) {
    Shape s = shaped((int)prefix, (int)questions, (int)length, (int)causal);
    long step[3] = {strides[2], strides[5], strides[8]}, rows = prefix + questions * length;
#pragma omp parallel for
    for (long i = 0; i < batches * heads; i++) {
        long batch = i / heads, head = i % heads;
        forward(&s, AT(query, 0), AT(key, 1), AT(value, 2), step, scale, out + i * rows * WIDTH, all + i * s.rows);
    }
}

void ixc_packed_backward(const float *query, const float *key, const float *value, const float *grad,
                         const long *strides, const float *out, const float *all, float *to_query, float *to_key,
                         float *to_value, long batches, long heads, long prefix, long questions, long length,
                         long causal, float scale) {
    Shape s = shaped((int)prefix, (int)questions, (int)length, (int)causal);
    long step[4] = {strides[2], strides[5], strides[8], strides[11]}, rows = prefix + questions * length;
#pragma omp parallel for
    for (long i = 0; i < batches * heads; i++) {
        long batch = i / heads, head = i % heads, at = i * rows * WIDTH;
        backward(&s, AT(grad, 3), out + at, all + i * s.rows, AT(query, 0), AT(key, 1), AT(value, 2), step, scale,
                 to_query + at, to_key + at, to_value + at);
    }
}

#endif
