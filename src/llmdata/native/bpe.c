/* Byte pairs of one long word in linear time (storage/long_words.py). A heap of merges takes n log n and leaves the
   processor's caches; this goes through the word once, after van Antwerpen and Neubeck, "So many tokens, so little time"
   (GitHub, 2024): of two tokens side by side it can be told from them alone whether merging the word by ranks leaves
   them so, and a sequence in which all neighbours can stand is what merging leaves. */
#include "native.h"

#define NONE UINT32_MAX

/* A table of 2^k keys (0 is none) with their values, at most half full. */
static ptrdiff_t slot_of(const uint64_t *keys, ptrdiff_t size, uint64_t key) {
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    ptrdiff_t at = (ptrdiff_t)(hash ^ hash >> 32) & (size - 1);
    while (keys[at] && keys[at] != key)
        at = (at + 1) & (size - 1);
    return at;
}

static ptrdiff_t length_of(uint32_t token, const int64_t *ends) {
    return (ptrdiff_t)(ends[token] - (token ? ends[token - 1] : 0));
}

static uint64_t edge(uint32_t node, uint8_t byte) { return ((uint64_t)node << 8 | byte) + 1; }
static uint64_t pair(uint32_t left, uint32_t right) { return ((uint64_t)left << 32 | right) + 1; }

/* The trie of all tokens, and which two merge into which. Tokens go by number, in the order of ranks; token i is
   bytes[ends[i - 1]:ends[i]], and merged from left[i] and right[i], which are i for a single byte. `edges` and `pairs`
   are zero, `pairs` has room for twice the tokens; where that of `edges` is more than half taken, -1. `tokens` gets the
   token that ends at each node of the trie, `shorter` the longest other token that a token begins with. */
ptrdiff_t bpe_build(const uint8_t *bytes, ptrdiff_t count, const int64_t *ends, const uint32_t *left,
                    const uint32_t *right, uint64_t *edges, uint32_t *nodes, ptrdiff_t edge_size, uint32_t *tokens,
                    uint32_t *shorter, uint64_t *pairs, uint32_t *merged, ptrdiff_t pair_size) {
    uint32_t used = 1;
    tokens[0] = NONE;
    for (ptrdiff_t i = 0, at = 0; i < count; i++) {
        uint32_t node = 0;
        for (; at < ends[i]; at++) {
            ptrdiff_t slot = slot_of(edges, edge_size, edge(node, bytes[at]));
            if (!edges[slot]) {
                if (2 * (ptrdiff_t)used > edge_size)
                    return -1;
                edges[slot] = edge(node, bytes[at]);
                tokens[used] = NONE;
                nodes[slot] = used++;
            }
            node = nodes[slot];
        }
        tokens[node] = (uint32_t)i;
        if (left[i] != (uint32_t)i) {
            ptrdiff_t slot = slot_of(pairs, pair_size, pair(left[i], right[i]));
            pairs[slot] = pair(left[i], right[i]);
            merged[slot] = (uint32_t)i;
        }
    }
    for (ptrdiff_t i = 0, at = 0; i < count; i++) {
        uint32_t node = 0;
        shorter[i] = NONE;
        for (; at < ends[i]; at++) {
            if (tokens[node] != NONE)
                shorter[i] = tokens[node];
            node = nodes[slot_of(edges, edge_size, edge(node, bytes[at]))];
        }
    }
    return used;
}

/* Whether merging leaves `one` and `two` side by side. Goes back in time: what was merged last is taken apart, and the
   halves at the border must not have been a pair of a lower rank, nor of the same rank further to the left. */
static int can_stand(uint32_t one, uint32_t two, const uint32_t *left, const uint32_t *right, const uint64_t *pairs,
                     const uint32_t *merged, ptrdiff_t pair_size) {
    for (uint64_t limit = UINT64_MAX;;) {
        ptrdiff_t slot = slot_of(pairs, pair_size, pair(one, two));
        if (pairs[slot] && merged[slot] < limit)
            return 0;
        int one_is_byte = right[one] == one, two_is_byte = left[two] == two;
        if (one_is_byte && two_is_byte)
            return 1;
        if (two_is_byte || (one > two && !one_is_byte)) {
            limit = one;
            one = right[one];
        } else {
            limit = (uint64_t)two + 1;
            two = left[two];
        }
    }
}

/* The tokens of `text` as numbers, every byte of which is one; returns how many. `out` has room for `size`, `dead` for
   one bit more; these are zero. */
ptrdiff_t bpe_encode(const uint8_t *text, ptrdiff_t size, const int64_t *ends, const uint32_t *left,
                     const uint32_t *right, const uint64_t *edges, const uint32_t *nodes, ptrdiff_t edge_size,
                     const uint32_t *tokens, const uint32_t *shorter, const uint64_t *pairs, const uint32_t *merged,
                     ptrdiff_t pair_size, uint8_t *dead, uint32_t *out) {
    ptrdiff_t at = 0, count = 0;
    while (at < size) {
        uint32_t token = NONE;
        for (ptrdiff_t next = at, node = 0; next < size; next++) {
            ptrdiff_t slot = slot_of(edges, edge_size, edge((uint32_t)node, text[next]));
            if (!edges[slot])
                break;
            node = nodes[slot];
            if (tokens[node] != NONE)
                token = tokens[node];
        }
        for (ptrdiff_t end;; token = shorter[token]) {
            /* Where no token can stand, the one that ends here has to be shorter, and no other may end here. */
            while (token == NONE) {
                if (!count)
                    return -1;
                dead[at >> 3] |= (uint8_t)(1 << (at & 7));
                token = out[--count];
                at -= length_of(token, ends);
                token = shorter[token];
            }
            end = at + length_of(token, ends);
            if (!(dead[end >> 3] >> (end & 7) & 1) &&
                (!count || can_stand(out[count - 1], token, left, right, pairs, merged, pair_size))) {
                out[count++] = token;
                at = end;
                break;
            }
        }
    }
    return count;
}
