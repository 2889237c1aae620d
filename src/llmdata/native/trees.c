/* Sums over oblivious trees (clean/extractor/model.py). */
#include "native.h"

/* So many rows are looked at together. */
#define TILE 64

/* What all trees say of `count` rows, added to `sums`. */
static inline __attribute__((always_inline)) void sum_tile(const float *columns, ptrdiff_t rows, int count, const int32_t *asks,
                                                           const float *borders, const int32_t *leaves, ptrdiff_t trees,
                                                           ptrdiff_t depth, int32_t *sums) {
    int32_t total[TILE] = {0};
    for (ptrdiff_t tree = 0; tree < trees; tree++, leaves += (ptrdiff_t)1 << depth) {
        int32_t leaf[TILE] = {0};
        for (int level = 0; level < depth; level++) {
            const float *column = columns + *asks++ * rows;
            float border = *borders++;
            for (int k = 0; k < count; k++) leaf[k] |= (column[k] > border) << level;
        }
        for (int k = 0; k < count; k++) total[k] += leaves[leaf[k]];
    }
    for (int k = 0; k < count; k++) sums[k] += total[k];
}

/* Adds to each of `rows` sums the leaves that all trees have for it. `columns` is (features, rows); level d of a tree asks
   whether feature `asks` is above `borders`, and is bit d of the number of its leaf. */
FOR_EACH_PROCESSOR
ptrdiff_t trees_sum(const float *columns, ptrdiff_t rows, const int32_t *asks, const float *borders, const int32_t *leaves,
                    ptrdiff_t trees, ptrdiff_t depth, int32_t *sums) {
    ptrdiff_t first = 0;
    for (; first + TILE <= rows; first += TILE)
        sum_tile(columns + first, rows, TILE, asks, borders, leaves, trees, depth, sums + first);
    for (; first + 16 <= rows; first += 16)
        sum_tile(columns + first, rows, 16, asks, borders, leaves, trees, depth, sums + first);
    if (first < rows)
        sum_tile(columns + first, rows, (int)(rows - first), asks, borders, leaves, trees, depth, sums + first);
    return 0;
}
