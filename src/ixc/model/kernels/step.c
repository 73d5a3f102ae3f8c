/* One pass of a whole decoder of float32 weights over some tokens of some rows, for small models: between two layers
   of a model that takes a millisecond, Python takes several.

   A row's keys lie in two places: positions before `shared` in a base that several rows may have in common and that is
   read once for all of them, the others in the row's own tail (layer, key or value, key head, capacity, width).
   Tokens of one row may follow each other in one pass: all are written behind the tail before any of them attends.

   Weights are (out, in); in is a multiple of 16. One thread: a pass is shorter than waking another one up. */

#include "attend.h"

#define TILE 4
#define WIDE 8

typedef float v16 __attribute__((vector_size(64)));

typedef struct {
    long layers, width, heads, key_heads, head_width, inner, words, tokens, bases;
} Sizes;

/* A token: its id, its position, the row's tail with the positions it has room for, the place of this token in it, the
   base (-1: none) and the place of its logits (-1: none wanted). */
typedef struct {
    long id, position;
    float *tail;
    long room, place, base, out;
} Token;

/* Positions read; distance of its heads; keys and values of every layer. */
typedef struct {
    long shared, apart;
    const float *layers[];
} Base;

INLINE v16 sixteen(const float *at) {
    v16 v;
    memcpy(&v, at, sizeof v);
    return v;
}

INLINE float sum16(v16 v) {
    f32 low, high;
    memcpy(&low, &v, sizeof low);
    memcpy(&high, (const char *)&v + sizeof low, sizeof high);
    return total(low + high);
}

INLINE void tile(const float *x, const float *w, float *y, const int rows, const int outs, long in, long out) {
    v16 sum[rows][outs];
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outs; o++) sum[r][o] = (v16){0};
    for (long k = 0; k < in; k += 16)
        for (int o = 0; o < outs; o++) {
            v16 each = sixteen(w + o * in + k);
            for (int r = 0; r < rows; r++) sum[r][o] += sixteen(x + r * in + k) * each;
        }
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outs; o++) y[r * out + o] = sum16(sum[r][o]);
}

/* y (rows, out) = x (rows, in) w; out is a multiple of 8. */
static void product(const float *x, const float *w, float *y, long rows, long in, long out) {
    for (long n = 0; n < out; n += WIDE) {
        const float *at = w + n * in;
        long m = 0;
        for (; m + TILE <= rows; m += TILE)
            for (int half = 0; half < WIDE; half += TILE)
                tile(x + m * in, at + half * in, y + m * out + n + half, TILE, TILE, in, out);
        for (; m + 2 <= rows; m += 2) tile(x + m * in, at, y + m * out + n, 2, WIDE, in, out);
        for (; m < rows; m++) tile(x + m * in, at, y + m * out + n, 1, WIDE, in, out);
    }
}

static void normed(const float *x, const float *weight, float *y, long width, float eps) {
    float sum = 0;
    for (long k = 0; k < width; k++) sum += x[k] * x[k];
    float each = 1 / sqrtf(sum / (float)width + eps);
    for (long k = 0; k < width; k++) y[k] = weight[k] * (x[k] * each);
}

static void rotated(float *x, const float *cosine, const float *sine, long width) {
    for (long d = 0; d < width / 2; d++) {
        float left = x[d], right = x[d + width / 2];
        x[d] = left * cosine[d] - right * sine[d];
        x[d + width / 2] = right * cosine[d + width / 2] + left * sine[d + width / 2];
    }
}

/* y = silu(y) * z, both multiples of 8 long. */
static void gated(float *y, const float *z, long count) {
    for (long k = 0; k < count; k += 8) {
        f32 x = eight(y + k), far = {0};
        for (int i = 0; i < 8; i++) far[i] = -fabsf(x[i]);
        f32 small = power(far), top = small;
        for (int i = 0; i < 8; i++) top[i] = x[i] < 0 ? small[i] : 1;
        f32 found = x * top / (1 + small) * eight(z + k);
        memcpy(y + k, &found, sizeof found);
    }
}

/* Rotate queries and keys, and write keys and values behind those of the tail. fused: for each key head its query heads,
   a key head and a value head. */
static void appended(const Sizes *s, const Token *t, float *fused, const float *cosine, const float *sine, long layer) {
    long width = s->head_width, group = s->heads / s->key_heads;
    for (long h = 0; h < s->key_heads; h++) {
        float *at = fused + h * (group + 2) * width, *to = t->tail;
        for (long g = 0; g <= group; g++) rotated(at + g * width, cosine, sine, width);
        to += ((2 * layer * s->key_heads + h) * t->room + t->place) * width;
        memcpy(to, at + group * width, sizeof(float) * width);
        memcpy(to + s->key_heads * t->room * width, at + (group + 1) * width, sizeof(float) * width);
    }
}

/* The queries of `many` tokens with one base, one key head: attention over the base and over each token's own tail,
   joined. part: many * group * (width + 2) numbers. */
static void attended(const Sizes *s, const Token *t, long many, const Base *base, float *const *queries, float *const *out,
                     long layer, long head, float *part) {
    long width = s->head_width, group = s->heads / s->key_heads, all = many * group;
    float scale = 1 / sqrtf((float)width), *y = part, *most = y + all * width, *sum = most + all;
    float q[MOST * 256], own[MOST * 256], own_most[MOST], own_sum[MOST];
    if (base) {
        const char *k = (const char *)(base->layers[2 * layer] + head * base->apart);
        const char *v = (const char *)(base->layers[2 * layer + 1] + head * base->apart);
        for (long i = 0; i < many; i++) memcpy(q + i * group * width, queries[i], sizeof(float) * group * width);
        if (all == 1 && width == 32) attend_part(q, k, v, y, most, sum, 1, base->shared, 32, scale, 0);
        else if (all == MOST && width == 32) attend_part(q, k, v, y, most, sum, MOST, base->shared, 32, scale, 0);
        else attend_part(q, k, v, y, most, sum, (int)all, base->shared, width, scale, 0);
    }
    for (long i = 0; i < many; i++, y += group * width, most += group, sum += group) {
        const float *k = t[i].tail + (2 * layer * s->key_heads + head) * t[i].room * width;
        const float *v = k + s->key_heads * t[i].room * width;
        attend_part(queries[i], (const char *)k, (const char *)v, own, own_most, own_sum, (int)group, t[i].place + 1,
                    width, scale, 0);
        for (long g = 0; g < group; g++) {
            float high = base && most[g] > own_most[g] ? most[g] : own_most[g];
            float mine = expf(own_most[g] - high), theirs = base ? expf(most[g] - high) : 0;
            float share = 1 / (mine * own_sum[g] + (base ? theirs * sum[g] : 0));
            for (long d = 0; d < width; d++)
                out[i][g * width + d] =
                    share * (mine * own[g * width + d] + (base ? theirs * y[g * width + d] : 0));
        }
    }
}

/* weights: norm, wqkv, wo, norm, w1, w3, w2 of every layer, then the last norm, the head and the embeddings.
   Tokens with one base stand together. cosines and sines: (positions, head width). work: tokens * (2 width +
   2 heads' widths + 2 inner) numbers at least. logits: (wanted, words). head width at most 256, heads / key heads at
   most 8, widths multiples of 16, words of 8. */
void ixc_step(const float *const *weights, const Sizes *s, const float *eps, const Token *tokens,
              const Base *const *bases, const float *cosines, const float *sines, float *work, float *logits) {
    long width = s->width, heads = s->heads * s->head_width, group = s->heads / s->key_heads, n = s->tokens;
    long fused_width = (s->heads + 2 * s->key_heads) * s->head_width;
    float *x = work, *normal = x + n * width, *mixed = normal + n * width, *wide = mixed + n * heads;
    float *other = wide + n * (fused_width > s->inner ? fused_width : s->inner), part[MOST * 258];
    for (long i = 0; i < n; i++)
        memcpy(x + i * width, weights[7 * s->layers + 2] + tokens[i].id * width, sizeof(float) * width);
    for (long layer = 0; layer < s->layers; layer++, weights += 7) {
        for (long i = 0; i < n; i++) normed(x + i * width, weights[0], normal + i * width, width, *eps);
        product(normal, weights[1], wide, n, width, fused_width);
        for (long i = 0; i < n; i++) {
            long at = tokens[i].position * s->head_width;
            appended(s, tokens + i, wide + i * fused_width, cosines + at, sines + at, layer);
        }
        for (long first = 0; first < n;) {
            long many = 1, base = tokens[first].base;
            while (base >= 0 && first + many < n && (many + 1) * group <= MOST && tokens[first + many].base == base) many++;
            for (long head = 0; head < s->key_heads; head++) {
                float *queries[MOST], *out[MOST];
                for (long i = 0; i < many; i++) {
                    queries[i] = wide + (first + i) * fused_width + head * (group + 2) * s->head_width;
                    out[i] = mixed + (first + i) * heads + head * group * s->head_width;
                }
                attended(s, tokens + first, many, base < 0 ? 0 : bases[base], queries, out, layer, head, part);
            }
            first += many;
        }
        product(mixed, weights[2], normal, n, heads, width);
        for (long k = 0; k < n * width; k++) x[k] += normal[k];
        for (long i = 0; i < n; i++) normed(x + i * width, weights[3], normal + i * width, width, *eps);
        product(normal, weights[4], wide, n, width, s->inner);
        product(normal, weights[5], other, n, width, s->inner);
        gated(wide, other, n * s->inner);
        product(wide, weights[6], normal, n, s->inner, width);
        for (long k = 0; k < n * width; k++) x[k] += normal[k];
    }
    long wanted = 0;
    for (long i = 0; i < n; i++)
        if (tokens[i].out >= 0) {
            normed(x + i * width, weights[0], normal + tokens[i].out * width, width, *eps);
            wanted++;
        }
    product(normal, weights[1], logits, wanted, width, s->words);
}
