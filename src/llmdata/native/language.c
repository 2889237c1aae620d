/* Sums of the rows of a fastText model (clean/language_model.py). */
#include "native.h"

/* Adds to each word's row of `sums` (words, width + 1) the rows of its n-grams, and last their number. A word, in UTF-8,
   ends where `ends` says. N-grams are hashed by FNV-1a, bytes with their sign as the library does; a bucket's row in
   `units` may be -1: none. */
ptrdiff_t language_n_grams(const uint8_t *words, const int64_t *ends, ptrdiff_t count, ptrdiff_t min_n, ptrdiff_t max_n,
                           const int32_t *row_of_bucket, ptrdiff_t buckets, const int32_t *units, ptrdiff_t width,
                           int64_t *sums) {
    ptrdiff_t begin = 0;
    for (ptrdiff_t word = 0; word < count; word++, sums += width + 1) {
        for (ptrdiff_t end = ends[word]; begin < end;) {
            uint32_t hash = 2166136261u;
            ptrdiff_t at = begin, next = begin;
            for (ptrdiff_t n = 1; n <= max_n && at < end; n++) {
                do
                    hash = (hash ^ (uint32_t)(int8_t)words[at++]) * 16777619u;
                while (at < end && (words[at] & 0xc0) == 0x80);
                if (n == 1) next = at;
                int32_t row = n < min_n ? -1 : row_of_bucket[hash % (uint32_t)buckets];
                if (row < 0) continue;
                for (ptrdiff_t place = 0; place < width; place++) sums[place] += units[row * width + place];
                sums[width]++;
            }
            begin = next;
        }
    }
    return 0;
}

/* Adds the rows `numbers` of `rows` (any, width) to `sum`. */
ptrdiff_t language_add(const int64_t *rows, ptrdiff_t width, const int64_t *numbers, ptrdiff_t count, int64_t *sum) {
    for (ptrdiff_t at = 0; at < count; at++) {
        const int64_t *row = rows + numbers[at] * width;
        for (ptrdiff_t place = 0; place < width; place++) sum[place] += row[place];
    }
    return 0;
}
