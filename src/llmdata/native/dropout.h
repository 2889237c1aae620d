/* Dropout (Srivastava et al. 2014) for one processor (train/kernels.py). What is left out is a hash of where it stands (the
   finalisers of SplitMix64 and MurmurHash3), so that the way back finds the same without a mask in memory. */

typedef struct {
    uint64_t seed;
    uint32_t dropped; /* of the 2^32 numbers that fall to an element, how many drop it */
    float rest;       /* the factor of the others */
} Dropout;

static Dropout dropout_of(ptrdiff_t dropped, ptrdiff_t seed) {
    return (Dropout){(uint64_t)seed, (uint32_t)dropped, 4294967296.0f / (4294967296.0f - (float)dropped)};
}

/* What the elements of a row have in common, of row number `row`. */
INLINE void begin(const Dropout *d, ptrdiff_t row, uint32_t *start, uint32_t *middle) {
    uint64_t z = d->seed + (uint64_t)(row + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    *start = (uint32_t)z, *middle = (uint32_t)(z >> 32);
}

/* The factor of element `k` of such a row. */
INLINE float factor(const Dropout *d, uint32_t start, uint32_t middle, uint32_t k) {
    uint32_t x = start + k * 0x9E3779B1u;
    x = (x ^ x >> 16) * 0x85EBCA6Bu ^ middle;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    return (x ^ x >> 16) < d->dropped ? 0.0f : d->rest;
}

/* What is left of row number `row`. */
INLINE void drop(const Dropout *d, const float *x, ptrdiff_t row, ptrdiff_t width, float *y) {
    uint32_t start, middle;
    begin(d, row, &start, &middle);
    for (ptrdiff_t i = 0; i < width; i++)
        y[i] = x[i] * factor(d, start, middle, (uint32_t)i);
}

/* y (rows, width) of x; and so the gradient of `x` from that of `y`. */
ptrdiff_t NAMED(dropout)(const float *x, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t dropped, ptrdiff_t seed, float *y) {
    Dropout d = dropout_of(dropped, seed);
    for (ptrdiff_t i = 0; i < rows; i++)
        drop(&d, x + i * width, i, width, y + i * width);
    return 0;
}
