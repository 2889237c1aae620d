/* Causal attention for one processor (train/kernels.py), on `products.h` and `dropout.h`. */
#include <math.h>

#define QUERIES 32 /* rows of scores at a time: what lies above the diagonal is left out by so many */

/* Positions, heads of queries, heads of keys and values, the width of each, that of a position in qkv; and padded the
   width of a head and the number of positions. */
typedef struct {
    ptrdiff_t length, heads, groups, width, row, wide, keys;
    const float *rope; /* cosines (length, width / 2), then sines; or none */
    Dropout dropout;
} Shape;

/* A head's numbers at a position, turned by it and times `scale`, and zeros up to `wide`. */
INLINE void load_row(const Shape *s, const float *in, ptrdiff_t position, float scale, float *out) {
    ptrdiff_t half = s->width / 2;
    if (s->rope) {
        const float *cosine = s->rope + position * half, *sine = cosine + s->length * half;
        for (ptrdiff_t d = 0; d < half; d++) {
            out[d] = (in[d] * cosine[d] - in[d + half] * sine[d]) * scale;
            out[d + half] = (in[d + half] * cosine[d] + in[d] * sine[d]) * scale;
        }
    } else
        for (ptrdiff_t d = 0; d < s->width; d++)
            out[d] = in[d] * scale;
    for (ptrdiff_t d = s->width; d < s->wide; d++)
        out[d] = 0;
}

/* The gradient of what `load_row` read, from that of what it wrote. */
INLINE void store_row(const Shape *s, const float *in, ptrdiff_t position, float scale, float *out) {
    ptrdiff_t half = s->width / 2;
    if (s->rope) {
        const float *cosine = s->rope + position * half, *sine = cosine + s->length * half;
        for (ptrdiff_t d = 0; d < half; d++) {
            out[d] = (in[d] * cosine[d] + in[d + half] * sine[d]) * scale;
            out[d + half] = (in[d + half] * cosine[d] - in[d] * sine[d]) * scale;
        }
    } else
        for (ptrdiff_t d = 0; d < s->width; d++)
            out[d] = in[d] * scale;
}

INLINE float dot(const float *a, const float *b, ptrdiff_t count) {
    SUM(sum, count, a[i] * b[i])
    return sum;
}

/* `in` (rows, columns) into `out` (columns, rows); the rows are a multiple of LANES. */
static void transpose(const float *in, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t in_row, float *out,
                      ptrdiff_t out_row) {
    for (ptrdiff_t i = 0; i < rows; i += LANES)
        for (ptrdiff_t j = 0; j < columns; j++)
            UNROLL for (int l = 0; l < LANES; l++)
                out[j * out_row + i + l] = in[(i + l) * in_row + j];
}

static Shape shape_of(ptrdiff_t length, ptrdiff_t heads, ptrdiff_t groups, ptrdiff_t width, const float *rope,
                      ptrdiff_t dropped, ptrdiff_t seed) {
    return (Shape){length, heads, groups, width, (heads + 2 * groups) * width, padded(width, LANES),
                   padded(length, QUERIES), rope, dropout_of(dropped, seed)};
}

/* Scores of the keys from number `from` on with QUERIES rows from `t` on, which lie beside each other, as all that is
   made of them: sums over keys are sums of registers. Minus infinity where a row does not see a key, which is before its
   `first` and after its own position. Returns how many keys there are. */
static ptrdiff_t score(const Shape *s, const float *keys, const float *queries_across, ptrdiff_t t, ptrdiff_t from,
                       const int64_t *first, float *scores) {
    ptrdiff_t count = t + QUERIES - from;
    multiply(keys + from * s->wide, s->wide, 1, queries_across, QUERIES, scores, QUERIES, count, QUERIES, s->wide, 0);
    int32_t begins[QUERIES] = {0}, ends[QUERIES];
    for (int i = 0; i < QUERIES; i++) {
        if (first && t + i < s->length)
            begins[i] = (int32_t)(first[t + i] - from);
        ends[i] = (int32_t)(t + i - from);
    }
    for (ptrdiff_t k = first ? 0 : t - from; k < count; k++)
        for (int i = 0; i < QUERIES; i++) {
            float value = scores[k * QUERIES + i];
            scores[k * QUERIES + i] = (int32_t)k < begins[i] || (int32_t)k > ends[i] ? -INFINITY : value;
        }
    return count;
}

/* Scores (keys, QUERIES) become e to them, less the greatest of the row. Gives the sum of each row's, and the logarithm
   of what it would be had nothing been subtracted. `own` is the number of the first row's own key. */
static void exponentiate(float *scores, ptrdiff_t count, ptrdiff_t own, float *sums, float *lse) {
    for (int j = 0; j < QUERIES; j += LANES, scores += LANES) {
        float most[LANES], sum[LANES] = {0};
        for (int l = 0; l < LANES; l++)
            most[l] = scores[(own + j + l) * QUERIES + l];
        for (ptrdiff_t k = 0; k < count; k++)
            for (int l = 0; l < LANES; l++)
                most[l] = scores[k * QUERIES + l] > most[l] ? scores[k * QUERIES + l] : most[l];
        for (ptrdiff_t k = 0; k < count; k++)
            for (int l = 0; l < LANES; l++)
                sum[l] += scores[k * QUERIES + l] = exponential(scores[k * QUERIES + l] - most[l]);
        for (int l = 0; l < LANES; l++) {
            sums[j + l] = sum[l];
            lse[j + l] = most[l] + logf(sum[l]);
        }
    }
}

/* A head at all positions, turned by them or not; zeros where positions are padded. */
static void load(const Shape *s, const float *in, int turn, float *out) {
    Shape plain = *s;
    if (!turn)
        plain.rope = NULL;
    for (ptrdiff_t t = 0; t < s->length; t++)
        load_row(&plain, in + t * s->row, t, 1, out + t * s->wide);
    memset(out + s->length * s->wide, 0, (size_t)((s->keys - s->length) * s->wide) * sizeof *out);
}

/* What is drawn for QUERIES rows from number `row` on. */
typedef struct {
    uint32_t start[QUERIES], middle[QUERIES];
} Draws;

static Draws draws_of(const Dropout *d, ptrdiff_t row) {
    Draws draws;
    for (int i = 0; i < QUERIES; i++)
        begin(d, row + i, &draws.start[i], &draws.middle[i]);
    return draws;
}

/* QUERIES rows of a head from `t` on, of which there are `rows`, turned and times `scale`; and the same across. */
static void load_block(const Shape *s, const float *in, ptrdiff_t t, ptrdiff_t rows, float scale, float *out,
                       float *across) {
    for (ptrdiff_t i = 0; i < rows; i++)
        load_row(s, in + (t + i) * s->row, t + i, scale, out + i * s->wide);
    memset(out + rows * s->wide, 0, (size_t)((QUERIES - rows) * s->wide) * sizeof *out);
    transpose(out, QUERIES, s->wide, s->wide, across, QUERIES);
}

/* y (B, T, H D) of qkv (B, T, (H + 2 K) D), and the logarithm of each softmax's denominator, lse (B, H, T). `first`
   (B, T) is the first position that each one sees. `dropped` of 2^32 weights are left out. Returns -1 if there is no
   memory. */
ptrdiff_t NAMED(attention)(const float *qkv, const float *rope, const int64_t *first, ptrdiff_t batch, ptrdiff_t length,
                           ptrdiff_t heads, ptrdiff_t groups, ptrdiff_t width, ptrdiff_t dropped, ptrdiff_t seed,
                           float *y, float *lse) {
    Shape s = shape_of(length, heads, groups, width, rope, dropped, seed);
    ptrdiff_t head = s.keys * s.wide, block = QUERIES * s.wide;
    float *keys = malloc((size_t)(2 * head + 3 * block + QUERIES * s.keys) * sizeof *keys);
    if (!keys)
        return -1;
    float *values = keys + head, *queries = values + head, *queries_across = queries + block, *out = queries_across + block,
          *weights = out + block, scale = 1 / sqrtf((float)width);
    for (ptrdiff_t b = 0; b < batch; b++, qkv += length * s.row, y += length * heads * width) {
        const int64_t *seen = first ? first + b * length : NULL;
        for (ptrdiff_t g = 0; g < groups; g++) {
            load(&s, qkv + (heads + g) * width, 1, keys);
            load(&s, qkv + (heads + groups + g) * width, 0, values);
            for (ptrdiff_t h = g * heads / groups; h < (g + 1) * heads / groups; h++)
                for (ptrdiff_t t = 0; t < length; t += QUERIES) {
                    ptrdiff_t rows = length - t < QUERIES ? length - t : QUERIES, from = seen ? seen[t] : 0;
                    float sums[QUERIES], logs[QUERIES];
                    load_block(&s, qkv + h * width, t, rows, scale, queries, queries_across);
                    ptrdiff_t count = score(&s, keys, queries_across, t, from, seen, weights);
                    exponentiate(weights, count, t - from, sums, logs);
                    memcpy(lse + (b * heads + h) * length + t, logs, (size_t)rows * sizeof *lse);
                    if (s.dropout.dropped) {
                        Draws draws = draws_of(&s.dropout, (b * heads + h) * length + t);
                        for (ptrdiff_t k = 0; k < count; k++)
                            for (int i = 0; i < QUERIES; i++)
                                weights[k * QUERIES + i] *= factor(&s.dropout, draws.start[i], draws.middle[i], from + k);
                    }
                    multiply(weights, 1, QUERIES, values + from * s.wide, s.wide, out, s.wide, QUERIES, s.wide, count, 0);
                    for (ptrdiff_t i = 0; i < rows; i++)
                        for (ptrdiff_t d = 0; d < width; d++)
                            y[((t + i) * heads + h) * width + d] = out[i * s.wide + d] / sums[i];
                }
        }
    }
    free(keys);
    return 0;
}

/* d_qkv, the gradient of `qkv`, from that of `y`, with what `attention` gave. */
ptrdiff_t NAMED(attention_backward)(const float *qkv, const float *rope, const int64_t *first, ptrdiff_t batch,
                                    ptrdiff_t length, ptrdiff_t heads, ptrdiff_t groups, ptrdiff_t width,
                                    ptrdiff_t dropped, ptrdiff_t seed, const float *y, const float *lse,
                                    const float *d_y, float *d_qkv) {
    Shape s = shape_of(length, heads, groups, width, rope, dropped, seed);
    ptrdiff_t head = s.keys * s.wide, block = QUERIES * s.wide, square = QUERIES * s.keys;
    float *keys = malloc((size_t)(4 * head + 5 * block + 2 * square) * sizeof *keys);
    if (!keys)
        return -1;
    float *values = keys + head, *d_keys = values + head, *d_values = d_keys + head, *queries = d_values + head,
          *queries_across = queries + block, *d_queries = queries_across + block, *d_out = d_queries + block,
          *d_out_across = d_out + block, *weights = d_out_across + block, *d_weights = weights + square,
          scale = 1 / sqrtf((float)width);
    for (ptrdiff_t b = 0; b < batch; b++) {
        const int64_t *seen = first ? first + b * length : NULL;
        for (ptrdiff_t g = 0; g < groups; g++) {
            load(&s, qkv + (heads + g) * width, 1, keys);
            load(&s, qkv + (heads + groups + g) * width, 0, values);
            memset(d_keys, 0, (size_t)(2 * head) * sizeof *d_keys);
            for (ptrdiff_t h = g * heads / groups; h < (g + 1) * heads / groups; h++)
                for (ptrdiff_t t = 0; t < length; t += QUERIES) {
                    ptrdiff_t rows = length - t < QUERIES ? length - t : QUERIES, from = seen ? seen[t] : 0;
                    float along[QUERIES], logs[QUERIES] = {0}, factors[QUERIES]; /* how each output lies along its gradient */
                    for (int i = 0; i < QUERIES; i++)
                        factors[i] = 1;
                    memcpy(logs, lse + (b * heads + h) * length + t, (size_t)rows * sizeof *lse);
                    load_block(&s, qkv + h * width, t, rows, scale, queries, queries_across);
                    for (ptrdiff_t i = 0; i < QUERIES; i++) {
                        ptrdiff_t at = ((t + i) * heads + h) * width, there = i < rows ? width : 0;
                        memcpy(d_out + i * s.wide, d_y + at, (size_t)there * sizeof *d_out);
                        memset(d_out + i * s.wide + there, 0, (size_t)(s.wide - there) * sizeof *d_out);
                        along[i] = dot(d_y + at, y + at, there);
                    }
                    transpose(d_out, QUERIES, s.wide, s.wide, d_out_across, QUERIES);
                    ptrdiff_t count = score(&s, keys, queries_across, t, from, seen, weights);
                    multiply(values + from * s.wide, s.wide, 1, d_out_across, QUERIES, d_weights, QUERIES, count, QUERIES,
                             s.wide, 0);
                    Draws draws = draws_of(&s.dropout, (b * heads + h) * length + t);
                    for (ptrdiff_t k = 0; k < count; k++) {
                        float *row = weights + k * QUERIES, *d_row = d_weights + k * QUERIES;
                        for (int i = 0; i < QUERIES && s.dropout.dropped; i++)
                            factors[i] = factor(&s.dropout, draws.start[i], draws.middle[i], from + k);
                        for (int i = 0; i < QUERIES; i++) {
                            float weight = exponential(row[i] - logs[i]);
                            row[i] = weight * factors[i];
                            d_row[i] = row[i] * d_row[i] - weight * along[i];
                        }
                    }
                    multiply(weights, QUERIES, 1, d_out, s.wide, d_values + from * s.wide, s.wide, count, s.wide, QUERIES, 1);
                    multiply(d_weights, QUERIES, 1, queries, s.wide, d_keys + from * s.wide, s.wide, count, s.wide, QUERIES,
                             1);
                    multiply(d_weights, 1, QUERIES, keys + from * s.wide, s.wide, d_queries, s.wide, QUERIES, s.wide, count,
                             0);
                    for (ptrdiff_t i = 0; i < rows; i++)
                        store_row(&s, d_queries + i * s.wide, t + i, scale, d_qkv + (t + i) * s.row + h * width);
                }
            for (ptrdiff_t t = 0; t < length; t++) {
                store_row(&s, d_keys + t * s.wide, t, 1, d_qkv + t * s.row + (heads + g) * width);
                memcpy(d_qkv + t * s.row + (heads + groups + g) * width, d_values + t * s.wide,
                       (size_t)width * sizeof *d_qkv);
            }
        }
        qkv += length * s.row, d_qkv += length * s.row;
        y += length * heads * width, d_y += length * heads * width;
    }
    free(keys);
    return 0;
}
