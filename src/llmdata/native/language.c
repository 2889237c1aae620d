/* Sums of the rows of a fastText model (clean/language_model.py). */
#include "native.h"

enum { TOGETHER = 32 }; /* so many rows are fetched from memory at a time */

static inline void add_row(int64_t *sum, const int32_t *units, ptrdiff_t width, ptrdiff_t row) {
    for (ptrdiff_t place = 0; place < width; place++) sum[place] += units[row * width + place];
    sum[width]++;
}

typedef struct {
    const int32_t *row_of_bucket, *units;
    ptrdiff_t width;
    uint32_t bucket[TOGETHER];
    int waiting;
} Rows;

static inline void add_waiting(Rows *rows, int64_t *sum) {
    int32_t row[TOGETHER];
    for (int n = 0; n < rows->waiting; n++) {
        row[n] = rows->row_of_bucket[rows->bucket[n]];
        if (row[n] >= 0) __builtin_prefetch(rows->units + row[n] * rows->width);
    }
    for (int n = 0; n < rows->waiting; n++)
        if (row[n] >= 0) add_row(sum, rows->units, rows->width, row[n]);
    rows->waiting = 0;
}

/* A word as its n-grams see it: between < and >. */
static uint8_t framed(const uint8_t *word, ptrdiff_t size, ptrdiff_t at) {
    return at == 0 ? '<' : at <= size ? word[at - 1] : '>';
}

/* For the pieces `first` to `last` - 1 of `known` (piece n from ends[n] to ends[n + 1], in UTF-8) a row of `sums`
   (pieces, width + 1): the sum of the piece's own row and those of its n-grams of min_n to max_n characters, and last
   their number. N-grams are hashed by FNV-1a, bytes with their sign, as the library does; a bucket's row may be -1:
   none. `own` says of each piece which row of `units` is its own, -1: none, and `has` whether its n-grams count. */
FOR_EACH_PROCESSOR
ptrdiff_t language_sums(const uint8_t *known, const int64_t *ends, ptrdiff_t first, ptrdiff_t last, const int32_t *own,
                        const uint8_t *has, ptrdiff_t min_n, ptrdiff_t max_n, const int32_t *row_of_bucket,
                        ptrdiff_t buckets, const int32_t *units, ptrdiff_t width, int64_t *sums) {
    Rows rows = {.row_of_bucket = row_of_bucket, .units = units, .width = width};
    for (ptrdiff_t piece = first; piece < last; piece++, own++, has++) {
        const uint8_t *word = known + ends[piece];
        ptrdiff_t size = ends[piece + 1] - ends[piece], end = *has ? size + 2 : 0;
        int64_t *sum = sums + piece * (width + 1);
        memset(sum, 0, (size_t)(width + 1) * sizeof *sum);
        if (*own >= 0) add_row(sum, units, width, *own);
        for (ptrdiff_t begin = 0, next; begin < end; begin = next) {
            uint32_t hash = 2166136261u;
            next = end;
            for (ptrdiff_t n = 1, at = begin; n <= max_n && at < end; n++) {
                do
                    hash = (hash ^ (uint32_t)(int8_t)framed(word, size, at++)) * 16777619u;
                while (at < end && (framed(word, size, at) & 0xc0) == 0x80);
                if (n == 1) next = at;
                if (n < min_n) continue;
                uint32_t bucket = hash % (uint32_t)buckets;
                __builtin_prefetch(row_of_bucket + bucket);
                rows.bucket[rows.waiting++] = bucket;
                if (rows.waiting == TOGETHER) add_waiting(&rows, sum);
            }
        }
        add_waiting(&rows, sum);
    }
    return 0;
}

/* Adds the rows `numbers` of `rows` (any, width) to `sum`. */
FOR_EACH_PROCESSOR
ptrdiff_t language_add(const int64_t *rows, ptrdiff_t width, const int64_t *numbers, ptrdiff_t count, int64_t *sum) {
    for (ptrdiff_t at = 0; at < count; at++) {
        const int64_t *row = rows + numbers[at] * width;
        if (at + TOGETHER < count) __builtin_prefetch(rows + numbers[at + TOGETHER] * width);
        for (ptrdiff_t place = 0; place < width; place++) sum[place] += row[place];
    }
    return 0;
}
