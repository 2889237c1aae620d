/* Numbers for the pieces of texts, and the tokens of pieces one after the other (pieces.py). */
#include "xxh3.h"

static int is_blank(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static uint64_t hash(const uint8_t *at, ptrdiff_t length, uint64_t seed) {
    for (; length > XXH3_LONGEST; at += XXH3_LONGEST, length -= XXH3_LONGEST)
        seed = xxh3(at, XXH3_LONGEST, seed);
    return xxh3(at, length, seed);
}

/* The numbers of what lies between the ASCII white space of `data`; gives back how many there are.

   `known` holds the bytes of all pieces, piece n from ends[n] to ends[n + 1], and has room for those of `data`. Each of
   the `slots` (a power of two, twice as many as there can be pieces) holds the hash of a piece and its number plus 1, or
   zeros. `count` is the number of pieces, before and after. */
ptrdiff_t pieces_number(const uint8_t *data, ptrdiff_t length, ptrdiff_t seed, uint64_t *table, ptrdiff_t slots,
                        uint8_t *known, int64_t *ends, int64_t *count, int64_t *numbers) {
    ptrdiff_t found = 0;
    for (ptrdiff_t at = 0; at < length;) {
        if (is_blank(data[at])) {
            at++;
            continue;
        }
        const uint8_t *piece = data + at;
        while (at < length && !is_blank(data[at])) at++;
        ptrdiff_t size = data + at - piece;
        uint64_t key = hash(piece, size, (uint64_t)seed), slot = key & (uint64_t)(slots - 1);
        for (;; slot = (slot + 1) & (uint64_t)(slots - 1)) {
            uint64_t *entry = table + 2 * slot;
            int64_t number = (int64_t)entry[1] - 1;
            if (number < 0) {
                number = (*count)++;
                entry[0] = key;
                entry[1] = (uint64_t)number + 1;
                memcpy(known + ends[number], piece, (size_t)size);
                ends[number + 1] = ends[number] + size;
            } else if (entry[0] != key || ends[number + 1] - ends[number] != size ||
                       memcmp(known + ends[number], piece, (size_t)size)) {
                continue;
            }
            numbers[found++] = number;
            break;
        }
    }
    return found;
}

/* The columns of the tokens of `numbers`: those of piece n stand from first[n] on in the columns kept, `counts[n]` of
   them. */
ptrdiff_t pieces_tokens(const int64_t *numbers, ptrdiff_t count, const int64_t *first, const int64_t *counts,
                        const uint64_t *kept_hashes, const int64_t *kept_lengths, const uint8_t *kept_kinds,
                        uint64_t *hashes, int64_t *lengths, uint8_t *kinds) {
    ptrdiff_t at = 0;
    for (ptrdiff_t place = 0; place < count; place++) {
        ptrdiff_t from = first[numbers[place]];
        for (ptrdiff_t left = counts[numbers[place]]; left > 0; left--, from++, at++) {
            hashes[at] = kept_hashes[from];
            lengths[at] = kept_lengths[from];
            kinds[at] = kept_kinds[from];
        }
    }
    return at;
}
