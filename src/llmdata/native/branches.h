/* The two branches of a layer for one processor (train/kernels.py), on `products.h`, `activations.h`, `dropout.h` and
   `attention.h`: what each makes of the normalised stream is added to the stream (pre-norm). All that lies between the
   products is made for a few positions at a time, while they are in the second cache, and made again in the backward pass
   rather than kept. */

#define MOST 1024 /* positions at a time for BLAS, which packs the weights again for each block of them */

/* Of `rows` positions, how many go through all products of a layer together, and of how many its weights' gradients are
   summed. */
static ptrdiff_t block_size(ptrdiff_t rows) { return !sgemm ? BLOCK : rows < MOST ? rows : MOST; }
static ptrdiff_t chunk_size(ptrdiff_t rows) { return !sgemm ? 4 * BLOCK : rows < MOST ? rows : MOST; }

/* LayerNorm without bias (arXiv 1607.06450), or RMSNorm (1910.07467), which takes the mean for 0. */
typedef struct {
    const float *weight;
    ptrdiff_t width, rms;
    float epsilon;
} Norm;

typedef struct {
    float mean, scale;
} Moments;

/* `epsilon` is given as the bits of a float. */
static Norm norm_of(const float *weight, ptrdiff_t width, ptrdiff_t rms, ptrdiff_t epsilon) {
    Norm norm = {weight, width, rms, 0};
    int32_t bits = (int32_t)epsilon;
    memcpy(&norm.epsilon, &bits, sizeof bits);
    return norm;
}

static void normalise(const Norm *norm, const float *x, ptrdiff_t rows, float *out, Moments *moments) {
    for (ptrdiff_t r = 0; r < rows; r++, x += norm->width, out += norm->width) {
        SUM(sum, norm->width, x[i])
        float mean = norm->rms ? 0 : sum / (float)norm->width;
        SUM(squares, norm->width, (x[i] - mean) * (x[i] - mean))
        float scale = 1 / sqrtf(squares / (float)norm->width + norm->epsilon);
        for (ptrdiff_t i = 0; i < norm->width; i++)
            out[i] = (x[i] - mean) * scale * norm->weight[i];
        moments[r] = (Moments){mean, scale};
    }
}

/* d_x, the gradient of `x`: what goes past the branch, d_y, and what comes from that of the normalised, d_out. Adds the
   weight's to d_weight. */
static void normalise_backward(const Norm *norm, const float *x, const Moments *moments, const float *d_out,
                               const float *d_y, ptrdiff_t rows, float *d_x, float *d_weight) {
    const float *weight = norm->weight;
    for (ptrdiff_t r = 0; r < rows; r++) {
        float mean = moments[r].mean, scale = moments[r].scale;
        SUM(sum, norm->width, d_out[i] * weight[i])
        SUM(product, norm->width, d_out[i] * weight[i] * (x[i] - mean))
        float shift = norm->rms ? 0 : sum / (float)norm->width, slope = product * scale * scale / (float)norm->width;
        for (ptrdiff_t i = 0; i < norm->width; i++) {
            d_x[i] = d_y[i] + scale * (d_out[i] * weight[i] - shift - (x[i] - mean) * slope);
            d_weight[i] += d_out[i] * (x[i] - mean) * scale;
        }
        x += norm->width, d_out += norm->width, d_y += norm->width, d_x += norm->width;
    }
}

/* y = x + what dropout leaves of y; the first row is number `row`. */
static void join(const Dropout *dropout, const float *x, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t width, float *y) {
    for (ptrdiff_t r = 0; r < rows; r++, x += width, y += width)
        if (dropout->dropped) {
            uint32_t start, middle;
            begin(dropout, row + r, &start, &middle);
            for (ptrdiff_t i = 0; i < width; i++)
                y[i] = x[i] + y[i] * factor(dropout, start, middle, (uint32_t)i);
        } else
            for (ptrdiff_t i = 0; i < width; i++)
                y[i] += x[i];
}

/* The gradient of what dropout was given, from that of what it left: `d_y` itself, or else in `room`. */
static const float *undropped(const Dropout *dropout, const float *d_y, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t width,
                              float *room) {
    if (!dropout->dropped)
        return d_y;
    for (ptrdiff_t r = 0; r < rows; r++)
        drop(dropout, d_y + r * width, row + r, width, room + r * width);
    return room;
}

/* y (rows, width) = x + dropout(activation(norm(x) upᵀ) downᵀ), and hidden = norm(x) upᵀ, which the backward pass wants.
   Returns -1 if there is no memory. */
ptrdiff_t NAMED(feed_forward)(const float *x, const float *norm_weight, const float *up, const float *down, ptrdiff_t rows,
                              ptrdiff_t width, ptrdiff_t inner, ptrdiff_t kind, ptrdiff_t rms, ptrdiff_t epsilon,
                              ptrdiff_t dropped, ptrdiff_t seed, float *hidden, float *y) {
    Norm norm = norm_of(norm_weight, width, rms, epsilon);
    Dropout dropout = dropout_of(dropped, seed);
    ptrdiff_t wide = kind == SWIGLU ? 2 * inner : inner, block = block_size(rows), first = room_of(width, wide), second = room_of(inner, width);
    float *room = malloc((size_t)(first + second + block * (width + inner)) * sizeof *room);
    if (!room)
        return -1;
    float *normal = room + first + second, *out = normal + block * width;
    Moments moments[MOST];
    Matrix to_hidden = prepared(up, 1, width, width, wide, room), to_y = prepared(down, 1, inner, inner, width, room + first);
    for (ptrdiff_t i = 0; i < rows; i += block) {
        ptrdiff_t high = rows - i < block ? rows - i : block;
        normalise(&norm, x + i * width, high, normal, moments);
        through(&to_hidden, normal, hidden + i * wide, high);
        for (ptrdiff_t j = 0; j < high; j++)
            activate[kind](hidden + (i + j) * wide, inner, out + j * inner);
        through(&to_y, out, y + i * width, high);
        join(&dropout, x + i * width, i, high, width, y + i * width);
    }
    free(room);
    return 0;
}

/* The gradient of `x` from that of `y`; those of the weights are added to d_norm, d_up and d_down. */
ptrdiff_t NAMED(feed_forward_backward)(const float *x, const float *norm_weight, const float *up, const float *down,
                                       ptrdiff_t rows, ptrdiff_t width, ptrdiff_t inner, ptrdiff_t kind, ptrdiff_t rms,
                                       ptrdiff_t epsilon, ptrdiff_t dropped, ptrdiff_t seed, const float *hidden,
                                       const float *d_y, float *d_x, float *d_norm, float *d_up, float *d_down) {
    Norm norm = norm_of(norm_weight, width, rms, epsilon);
    Dropout dropout = dropout_of(dropped, seed);
    ptrdiff_t wide = kind == SWIGLU ? 2 * inner : inner, block = block_size(rows), chunk = chunk_size(rows),
              first = room_of(wide, width), second = room_of(width, inner),
              size = first + second + chunk * (2 * width + inner + wide) + block * (width + inner);
    float *room = malloc((size_t)size * sizeof *room);
    if (!room)
        return -1;
    float *normal = room + first + second, *left = normal + chunk * width, *out = left + chunk * width,
          *d_hidden = out + chunk * inner, *d_normal = d_hidden + chunk * wide, *d_out = d_normal + block * width;
    Moments moments[MOST];
    Matrix to_normal = prepared(up, width, 1, wide, width, room), to_out = prepared(down, inner, 1, width, inner, room + first);
    int failed = 0;
    for (ptrdiff_t start = 0; start < rows; start += chunk) {
        ptrdiff_t count = rows - start < chunk ? rows - start : chunk;
        const float *d_left = undropped(&dropout, d_y + start * width, start, count, width, left);
        for (ptrdiff_t i = 0; i < count; i += block) {
            ptrdiff_t high = count - i < block ? count - i : block, at = (start + i) * width;
            normalise(&norm, x + at, high, normal + i * width, moments);
            through(&to_out, d_left + i * width, d_out, high);
            for (ptrdiff_t j = 0; j < high; j++)
                differentiate[kind](hidden + (start + i + j) * wide, d_out + j * inner, inner, out + (i + j) * inner,
                                    d_hidden + (i + j) * wide);
            through(&to_normal, d_hidden + i * wide, d_normal, high);
            normalise_backward(&norm, x + at, moments, d_normal, d_y + at, high, d_x + at, d_norm);
        }
        failed |= NAMED(product)(d_left, 1, width, out, inner, 1, d_down, inner, width, inner, count, 1) != 0;
        failed |= NAMED(product)(d_hidden, 1, wide, normal, width, 1, d_up, width, wide, width, count, 1) != 0;
    }
    free(room);
    return -failed;
}

/* y (B, T, C) = x + dropout(attention(norm(x) inᵀ) outᵀ), with what the backward pass wants: qkv = norm(x) inᵀ, and what
   `attention` gives. Returns -1 if there is no memory. */
ptrdiff_t NAMED(attention_branch)(const float *x, const float *norm_weight, const float *in, const float *out,
                                  const float *rope, const int64_t *first, ptrdiff_t batch, ptrdiff_t length,
                                  ptrdiff_t heads, ptrdiff_t groups, ptrdiff_t width, ptrdiff_t channels, ptrdiff_t rms,
                                  ptrdiff_t epsilon, ptrdiff_t dropped, ptrdiff_t weights_seed, ptrdiff_t seed, float *qkv,
                                  float *attended, float *lse, float *y) {
    Norm norm = norm_of(norm_weight, channels, rms, epsilon);
    Dropout dropout = dropout_of(dropped, seed);
    ptrdiff_t rows = batch * length, row = (heads + 2 * groups) * width, inner = heads * width;
    float *normal = malloc((size_t)(rows * channels + 1) * sizeof *normal + (size_t)rows * sizeof(Moments));
    if (!normal)
        return -1;
    normalise(&norm, x, rows, normal, (Moments *)(normal + rows * channels));
    int failed = NAMED(product)(normal, channels, 1, in, 1, channels, qkv, row, rows, row, channels, 0) != 0;
    free(normal);
    failed |= NAMED(attention)(qkv, rope, first, batch, length, heads, groups, width, dropped, weights_seed, attended, lse) != 0;
    failed |= NAMED(product)(attended, inner, 1, out, 1, inner, y, channels, rows, channels, inner, 0) != 0;
    join(&dropout, x, 0, rows, channels, y);
    return -failed;
}

/* The gradient of `x` from that of `y`; those of the weights are added to d_norm, d_in and d_outward. */
ptrdiff_t NAMED(attention_branch_backward)(const float *x, const float *norm_weight, const float *in, const float *out,
                                           const float *rope, const int64_t *first, ptrdiff_t batch, ptrdiff_t length,
                                           ptrdiff_t heads, ptrdiff_t groups, ptrdiff_t width, ptrdiff_t channels,
                                           ptrdiff_t rms, ptrdiff_t epsilon, ptrdiff_t dropped, ptrdiff_t weights_seed,
                                           ptrdiff_t seed, const float *qkv, const float *attended, const float *lse,
                                           const float *d_y, float *d_x, float *d_norm, float *d_in, float *d_outward) {
    Norm norm = norm_of(norm_weight, channels, rms, epsilon);
    Dropout dropout = dropout_of(dropped, seed);
    ptrdiff_t rows = batch * length, row = (heads + 2 * groups) * width, inner = heads * width;
    float *normal = malloc((size_t)(rows * (2 * channels + inner + row)) * sizeof *normal + (size_t)rows * sizeof(Moments));
    if (!normal)
        return -1;
    float *d_normal = normal + rows * channels, *d_attended = d_normal + rows * channels, *d_qkv = d_attended + rows * inner;
    Moments *moments = (Moments *)(d_qkv + rows * row);
    const float *d_left = undropped(&dropout, d_y, 0, rows, channels, d_normal);
    int failed = NAMED(product)(d_left, channels, 1, out, inner, 1, d_attended, inner, rows, inner, channels, 0) != 0;
    failed |= NAMED(product)(d_left, 1, channels, attended, inner, 1, d_outward, inner, channels, inner, rows, 1) != 0;
    failed |= NAMED(attention_backward)(qkv, rope, first, batch, length, heads, groups, width, dropped, weights_seed,
                                        attended, lse, d_attended, d_qkv) != 0;
    normalise(&norm, x, rows, normal, moments);
    failed |= NAMED(product)(d_qkv, 1, row, normal, channels, 1, d_in, channels, row, channels, rows, 1) != 0;
    failed |= NAMED(product)(d_qkv, row, 1, in, channels, 1, d_normal, channels, rows, channels, row, 0) != 0;
    normalise_backward(&norm, x, moments, d_normal, d_y, rows, d_x, d_norm);
    free(normal);
    return -failed;
}
