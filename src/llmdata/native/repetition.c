/* N-grams of words that come again (clean/gopher_repetition.py). */
#include "native.h"

enum { SHORTEST = 2, LONGEST_TOP = 4, LONGEST = 10 };

/* The first n from 2 to 10 whose share of the text's characters exceeds limits[n - 2], or 0; the characters are left in
   `found`. For n up to 4 they are those of the most frequent n-gram, of equals the first; for longer ones those in
   n-grams that were read before, reading on behind each such n-gram. It stops where repeated n-grams of at least 4
   words cover no more than `limits[9]` of the text: longer ones lie within them.

   Fewer than 2**31 words, by their hashes and lengths. `odd` is any odd number: it chooses the places in a table,
   nothing else. `scratch` has room for 6 numbers a word and one more. */
ptrdiff_t repetition_n_grams(const uint64_t *words, const int64_t *lengths, ptrdiff_t count, ptrdiff_t characters,
                             const double *limits, ptrdiff_t odd, uint64_t *scratch, int64_t *found) {
    uint64_t *hashes = scratch;
    int64_t *ends = (int64_t *)(hashes + count); /* characters of the words before each */
    int32_t *among = (int32_t *)(ends + count + 1), *first = among + count, *times = first + count;
    int32_t *table = times + count; /* fewer than 4 for each word */
    double text = (double)characters;

    ends[0] = 0;
    for (ptrdiff_t at = 0; at < count; at++) {
        hashes[at] = words[at];
        ends[at + 1] = ends[at] + lengths[at];
        among[at] = (int32_t)at;
    }
    ptrdiff_t candidates = count; /* what comes again as an n-gram came again as an (n - 1)-gram */
    for (ptrdiff_t n = SHORTEST; n <= LONGEST && n <= count; n++) {
        while (candidates && among[candidates - 1] > count - n) candidates--;
        int bits = 1;
        while (((ptrdiff_t)1 << bits) < 2 * candidates) bits++;
        memset(table, 0, sizeof *table << bits);
        ptrdiff_t top = 0, most = 1;
        for (ptrdiff_t place = 0; place < candidates; place++) {
            int32_t at = among[place];
            uint64_t hash = hashes[at] = hashes[at] * 0x9E3779B97F4A7C15u + words[at + n - 1];
            uint64_t slot = hash * (uint64_t)odd >> (64 - bits);
            while (table[slot] && hashes[table[slot] - 1] != hash) slot = (slot + 1) & (((uint64_t)1 << bits) - 1);
            if (!table[slot]) {
                table[slot] = at + 1;
                times[at] = 0;
            }
            first[at] = table[slot] - 1;
            times[first[at]]++;
        }
        ptrdiff_t repeated = 0;
        for (ptrdiff_t place = 0; place < candidates; place++) {
            int32_t at = among[place];
            if (times[first[at]] < 2) continue;
            among[repeated++] = at;
            if (first[at] == at && times[at] > most) top = at, most = times[at];
        }
        candidates = repeated;

        int64_t share = 0, covered = 0, free = 0, end = 0;
        if (n <= LONGEST_TOP) share = (ends[top + n] - ends[top] + n - 1) * most;
        for (ptrdiff_t place = 0; place < repeated; place++) {
            int32_t at = among[place];
            covered += ends[at + n] - (ends[at] > end ? ends[at] : end);
            end = ends[at + n];
            if (n <= LONGEST_TOP || at < free) continue;
            if (times[first[at]]) {
                times[first[at]] = 0; /* read */
            } else {
                share += ends[at + n] - ends[at];
                free = at + n;
            }
        }
        if ((double)share / text > limits[n - SHORTEST]) {
            *found = share;
            return n;
        }
        if (n >= LONGEST_TOP && (double)covered / text <= limits[LONGEST - SHORTEST + 1]) return 0;
    }
    return 0;
}
