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

/* What each of QUERIES rows from `t` on gives to every key: e to the score less `lse`, where that is known; or else a
   share of 1, and `lse` is made. Nothing to keys before a row's `first` and after its own position. Returns how many
   keys from the beginning none of the rows sees, a multiple of LANES. */
static ptrdiff_t weigh(const Shape *s, const float *queries, const float *keys_across, ptrdiff_t t,
                       const int64_t *first, float *weights, float *lse, int known) {
    ptrdiff_t end = t + QUERIES, from = first ? first[t] / LANES * LANES : 0;
    multiply(queries, s->wide, 1, keys_across + from, s->keys, weights + from, s->keys, QUERIES, end - from, s->wide, 0);
    for (ptrdiff_t i = 0; i < QUERIES; i++) {
        float *row = weights + i * s->keys;
        if (t + i >= s->length) {
            memset(row + from, 0, (size_t)(end - from) * sizeof *row);
            continue;
        }
        for (ptrdiff_t k = from; first && k < first[t + i]; k++)
            row[k] = -INFINITY;
        for (ptrdiff_t k = t + i + 1; k < end; k++)
            row[k] = -INFINITY;
        if (known) {
            for (ptrdiff_t k = from; k < end; k++)
                row[k] = exponential(row[k] - lse[t + i]);
            continue;
        }
        float part[LANES], most = row[t + i], sum = 0;
        for (int l = 0; l < LANES; l++)
            part[l] = most;
        for (ptrdiff_t k = from; k < end; k += LANES)
            for (int l = 0; l < LANES; l++)
                part[l] = row[k + l] > part[l] ? row[k + l] : part[l];
        for (int l = 0; l < LANES; l++)
            most = part[l] > most ? part[l] : most;
        memset(part, 0, sizeof part);
        for (ptrdiff_t k = from; k < end; k += LANES)
            for (int l = 0; l < LANES; l++)
                part[l] += row[k + l] = exponential(row[k + l] - most);
        for (int l = 0; l < LANES; l++)
            sum += part[l];
        lse[t + i] = most + logf(sum);
        for (ptrdiff_t k = from; k < end; k++)
            row[k] *= 1 / sum;
    }
    return from;
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

/* y (B, T, H D) of qkv (B, T, (H + 2 K) D), and the logarithm of each softmax's denominator, lse (B, H, T). `first`
   (B, T) is the first position that each one sees. `dropped` of 2^32 weights are left out. Returns -1 if there is no
   memory. */
ptrdiff_t NAMED(attention)(const float *qkv, const float *rope, const int64_t *first, ptrdiff_t batch, ptrdiff_t length,
                           ptrdiff_t heads, ptrdiff_t groups, ptrdiff_t width, ptrdiff_t dropped, ptrdiff_t seed,
                           float *y, float *lse) {
    Shape s = shape_of(length, heads, groups, width, rope, dropped, seed);
    ptrdiff_t head = s.keys * s.wide, block = QUERIES * s.wide;
    float *keys = malloc((size_t)(3 * head + 2 * block + (QUERIES + 1) * s.keys) * sizeof *keys);
    if (!keys)
        return -1;
    float *keys_across = keys + head, *values = keys_across + head, *queries = values + head, *out = queries + block,
          *weights = out + block, *factors = weights + QUERIES * s.keys, scale = 1 / sqrtf((float)width);
    for (ptrdiff_t b = 0; b < batch; b++, qkv += length * s.row, y += length * heads * width) {
        const int64_t *seen = first ? first + b * length : NULL;
        for (ptrdiff_t g = 0; g < groups; g++) {
            load(&s, qkv + (heads + g) * width, 1, keys);
            transpose(keys, s.keys, s.wide, s.wide, keys_across, s.keys);
            load(&s, qkv + (heads + groups + g) * width, 0, values);
            for (ptrdiff_t h = g * heads / groups; h < (g + 1) * heads / groups; h++)
                for (ptrdiff_t t = 0; t < length; t += QUERIES) {
                    ptrdiff_t rows = length - t < QUERIES ? length - t : QUERIES;
                    memset(queries, 0, (size_t)block * sizeof *queries);
                    for (ptrdiff_t i = 0; i < rows; i++)
                        load_row(&s, qkv + (t + i) * s.row + h * width, t + i, scale,
                                 queries + i * s.wide);
                    ptrdiff_t from = weigh(&s, queries, keys_across, t, seen, weights, lse + (b * heads + h) * length, 0);
                    for (ptrdiff_t i = 0; s.dropout.dropped && i < rows; i++) {
                        draw(&s.dropout, (b * heads + h) * length + t + i, from, t + QUERIES, factors);
                        for (ptrdiff_t k = from; k < t + QUERIES; k++)
                            weights[i * s.keys + k] *= factors[k];
                    }
                    multiply(weights + from, s.keys, 1, values + from * s.wide, s.wide, out, s.wide, QUERIES, s.wide,
                             t + QUERIES - from, 0);
                    for (ptrdiff_t i = 0; i < rows; i++)
                        memcpy(y + ((t + i) * heads + h) * width, out + i * s.wide, (size_t)width * sizeof *y);
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
    float *keys = malloc((size_t)(6 * head + 3 * block + 2 * square + s.keys) * sizeof *keys);
    if (!keys)
        return -1;
    float *keys_across = keys + head, *values = keys_across + head, *values_across = values + head,
          *d_keys = values_across + head, *d_values = d_keys + head, *queries = d_values + head,
          *d_queries = queries + block, *d_out = d_queries + block, *weights = d_out + block,
          *d_weights = weights + square, *factors = d_weights + square, scale = 1 / sqrtf((float)width);
    for (ptrdiff_t b = 0; b < batch; b++) {
        const int64_t *seen = first ? first + b * length : NULL;
        for (ptrdiff_t g = 0; g < groups; g++) {
            load(&s, qkv + (heads + g) * width, 1, keys);
            transpose(keys, s.keys, s.wide, s.wide, keys_across, s.keys);
            load(&s, qkv + (heads + groups + g) * width, 0, values);
            transpose(values, s.keys, s.wide, s.wide, values_across, s.keys);
            memset(d_keys, 0, (size_t)(2 * head) * sizeof *d_keys);
            for (ptrdiff_t h = g * heads / groups; h < (g + 1) * heads / groups; h++)
                for (ptrdiff_t t = 0; t < length; t += QUERIES) {
                    ptrdiff_t rows = length - t < QUERIES ? length - t : QUERIES, end = t + QUERIES;
                    float along[QUERIES] = {0}; /* how each row's output lies along its gradient */
                    memset(queries, 0, (size_t)block * sizeof *queries);
                    memset(d_out, 0, (size_t)block * sizeof *d_out);
                    for (ptrdiff_t i = 0; i < rows; i++) {
                        ptrdiff_t at = ((t + i) * heads + h) * width;
                        load_row(&s, qkv + (t + i) * s.row + h * width, t + i, scale,
                                 queries + i * s.wide);
                        memcpy(d_out + i * s.wide, d_y + at, (size_t)width * sizeof *d_out);
                        for (ptrdiff_t d = 0; d < width; d++)
                            along[i] += d_y[at + d] * y[at + d];
                    }
                    ptrdiff_t from = weigh(&s, queries, keys_across, t, seen, weights,
                                           (float *)lse + (b * heads + h) * length, 1);
                    multiply(d_out, s.wide, 1, values_across + from, s.keys, d_weights + from, s.keys, QUERIES,
                             end - from, s.wide, 0);
                    for (ptrdiff_t i = 0; i < QUERIES; i++) {
                        float *row = weights + i * s.keys, *d_row = d_weights + i * s.keys;
                        if (s.dropout.dropped)
                            draw(&s.dropout, (b * heads + h) * length + t + i, from, end, factors);
                        for (ptrdiff_t k = from; k < end; k++) {
                            float weight = row[k];
                            row[k] *= s.dropout.dropped ? factors[k] : 1.0f;
                            d_row[k] = row[k] * d_row[k] - weight * along[i];
                        }
                    }
                    multiply(weights + from, 1, s.keys, d_out, s.wide, d_values + from * s.wide, s.wide, end - from,
                             s.wide, QUERIES, 1);
                    multiply(d_weights + from, s.keys, 1, keys + from * s.wide, s.wide, d_queries, s.wide, QUERIES,
                             s.wide, end - from, 0);
                    multiply(d_weights + from, 1, s.keys, queries, s.wide, d_keys + from * s.wide, s.wide, end - from,
                             s.wide, QUERIES, 1);
                    for (ptrdiff_t i = 0; i < rows; i++)
                        store_row(&s, d_queries + i * s.wide, t + i, scale,
                                  d_qkv + (t + i) * s.row + h * width);
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
