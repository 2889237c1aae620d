/* Words and shingles of texts as 64-bit hashes (dedup/words.py says what the codes of characters mean). */
#include "native.h"

enum { UNKNOWN = 0, SEPARATOR = 1, DELETED = 3, COMMA = ',', POINT = '.', ZERO = '0' };
#define ALONE 0x80000000u
#define BASE 0x9E3779B97F4A7C15u

/* The finaliser of splitmix64 (Steele et al. 2014). */
static inline uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
    return value ^ (value >> 31);
}

/* The last character of the number that begins at `at`: digits, with single points and commas between them. */
static ptrdiff_t end_of_number(const uint32_t *points, ptrdiff_t at, ptrdiff_t end, const uint32_t *table) {
    while (at + 1 < end) {
        const uint32_t next = table[points[at + 1]];
        if (next == ZERO)
            at += 1;
        else if ((next == POINT || next == COMMA) && at + 2 < end && table[points[at + 2]] == ZERO)
            at += 2;
        else
            break;
    }
    return at;
}

/* Hashes of the words of each text, and how many it has. `ends` says where the characters of each text end, `table`
   has a code for each character. Returns the number of all words, or -1 if a character has no code yet. `words` has
   room for as many as there are characters. */
ptrdiff_t find_words(const uint32_t *points, const int64_t *ends, ptrdiff_t texts, const uint32_t *table,
                     ptrdiff_t numbers, ptrdiff_t first_letter, uint64_t *words, int64_t *counts) {
    ptrdiff_t found = 0;
    for (ptrdiff_t text = 0, at = 0; text < texts; text++) {
        const ptrdiff_t before = found, end = ends[text];
        /* Of the word in hand the sum of code × BASE^place, and the power of the next place: 1 where there is no word,
           since no text is long enough for another power to be 1. */
        uint64_t sum = 0, power = 1;
        for (;; at++) {
            uint32_t code = SEPARATOR;
            for (; at < end && (code = table[points[at]]) > ZERO && code < ALONE; at++) {
                sum += code * power;
                power *= BASE;
            }
            if (at == end) break;
            if (code == UNKNOWN) return -1;
            if (code == DELETED) continue;
            if (code == ZERO && numbers) at = end_of_number(points, at, end, table);
            if (code >= first_letter && code < ALONE) {
                sum += code * power;
                power *= BASE;
                continue;
            }
            if (power != 1) words[found++] = mix(sum);
            if (code >= ALONE) words[found++] = mix(code);
            sum = 0;
            power = 1;
        }
        if (power != 1) words[found++] = mix(sum);
        counts[text] = found - before;
    }
    return found;
}

/* Hashes of the runs of `n` words of each text, or of all its words where it has fewer. Returns how many. */
FOR_EACH_PROCESSOR
ptrdiff_t find_shingles(const uint64_t *words, const int64_t *counts, ptrdiff_t texts, const uint64_t *factors,
                        ptrdiff_t n, uint64_t *shingles) {
    ptrdiff_t found = 0;
    for (ptrdiff_t text = 0; text < texts; words += counts[text++]) {
        const ptrdiff_t length = counts[text] < n ? counts[text] : n, runs = length ? counts[text] - length + 1 : 0;
        uint64_t *sums = shingles + found;
        memset(sums, 0, (size_t)runs * sizeof *sums);
        for (ptrdiff_t k = 0; k < length; k++)
            for (ptrdiff_t first = 0; first < runs; first++) sums[first] += words[first + k] * factors[k];
        found += runs;
    }
    for (ptrdiff_t at = 0; at < found; at++) shingles[at] = mix(shingles[at]);
    return found;
}
