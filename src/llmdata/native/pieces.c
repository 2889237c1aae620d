/* Numbers for the pieces of texts, and the tokens of pieces one after the other (pieces.py). */
#include "xxh3.h"

static int is_blank(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static uint64_t hash(const uint8_t *at, ptrdiff_t length, uint64_t seed) {
    for (; length > XXH3_LONGEST; at += XXH3_LONGEST, length -= XXH3_LONGEST)
        seed = xxh3(at, XXH3_LONGEST, seed);
    return xxh3(at, length, seed);
}

/* A table has a power of two of `slots`, at least one of them free. Each holds the hash of a piece and its number plus
   1, or zeros. The seed is chance: no page has pieces that crowd a slot, or two of the same 64 bits. */
static uint64_t *slot_of(uint64_t *table, ptrdiff_t slots, uint64_t key) {
    uint64_t slot = key & (uint64_t)(slots - 1);
    while (table[2 * slot + 1] && table[2 * slot] != key) slot = (slot + 1) & (uint64_t)(slots - 1);
    return table + 2 * slot;
}

enum { TOGETHER = 16 }; /* so many slots are fetched from memory at a time */

/* The numbers of what lies between the ASCII white space of `data`; gives back how many there are. New pieces are
   added: `known` holds the bytes of all, piece n from ends[n] to ends[n + 1], and has room for those of `data`. `count`
   is how many pieces there are, before and after. */
ptrdiff_t pieces_number(const uint8_t *data, ptrdiff_t length, ptrdiff_t seed, uint64_t *table, ptrdiff_t slots,
                        uint8_t *known, int64_t *ends, int64_t *count, int64_t *numbers) {
    ptrdiff_t found = 0, at = 0;
    while (at < length) {
        const uint8_t *piece[TOGETHER];
        ptrdiff_t size[TOGETHER];
        uint64_t key[TOGETHER];
        int pieces = 0;
        while (at < length && pieces < TOGETHER) {
            ptrdiff_t begin = at;
            while (at < length && !is_blank(data[at])) at++;
            if (begin < at) {
                piece[pieces] = data + begin;
                size[pieces] = at - begin;
                key[pieces] = hash(data + begin, at - begin, (uint64_t)seed);
                __builtin_prefetch(table + 2 * (key[pieces++] & (uint64_t)(slots - 1)));
            }
            at++;
        }
        for (int this = 0; this < pieces; this++) {
            uint64_t *entry = slot_of(table, slots, key[this]);
            if (!entry[1]) {
                int64_t number = (*count)++;
                entry[0] = key[this];
                entry[1] = (uint64_t)number + 1;
                memcpy(known + ends[number], piece[this], (size_t)size[this]);
                ends[number + 1] = ends[number] + size[this];
            }
            numbers[found++] = (int64_t)entry[1] - 1;
        }
    }
    return found;
}

/* For pieces `first` to `last` - 1 of one table their numbers in another, or -1. */
ptrdiff_t pieces_find(const uint8_t *known, const int64_t *ends, ptrdiff_t first, ptrdiff_t last, ptrdiff_t seed,
                      uint64_t *table, ptrdiff_t slots, int64_t *numbers) {
    for (ptrdiff_t piece = first; piece < last; piece++) {
        uint64_t key = hash(known + ends[piece], ends[piece + 1] - ends[piece], (uint64_t)seed);
        *numbers++ = (int64_t)slot_of(table, slots, key)[1] - 1;
    }
    return 0;
}

/* The columns of the tokens of `numbers`: those of piece n stand from first[n] on in the columns kept, `counts[n]` of
   them. */
ptrdiff_t pieces_tokens(const int64_t *numbers, ptrdiff_t count, const int64_t *first, const int64_t *counts,
                        const uint64_t *kept_hashes, const int64_t *kept_lengths, const uint8_t *kept_kinds,
                        uint64_t *hashes, int64_t *lengths, uint8_t *kinds) {
    ptrdiff_t at = 0;
    for (ptrdiff_t place = 0; place < count; place++) {
        if (place + TOGETHER < count) __builtin_prefetch(first + numbers[place + TOGETHER]);
        ptrdiff_t from = first[numbers[place]];
        for (ptrdiff_t left = counts[numbers[place]]; left > 0; left--, from++, at++) {
            hashes[at] = kept_hashes[from];
            lengths[at] = kept_lengths[from];
            kinds[at] = kept_kinds[from];
        }
    }
    return at;
}
