/* MinHash signatures (dedup/minhash.py). */
#include "native.h"

/* So many values are kept at a time, in the processor's registers or its nearest cache. */
#define TILE 112

/* For each text and each factor the least of `hash × factor` modulo the word size: out is (texts, width). `ends` says
   where the hashes of each text end; each has at least one. */
#define DEFINE_MINHASH(NAME, WORD)                                                                                  \
    FOR_EACH_PROCESSOR                                                                                              \
    ptrdiff_t NAME(const WORD *hashes, const int64_t *ends, ptrdiff_t texts, const WORD *factors, ptrdiff_t width,  \
                   WORD *out) {                                                                                     \
        for (ptrdiff_t tile = 0; tile < width; tile += TILE) {                                                      \
            WORD factor[TILE] = {0};                                                                                \
            size_t used = (size_t)(width - tile < TILE ? width - tile : TILE) * sizeof(WORD);                       \
            memcpy(factor, factors + tile, used);                                                                   \
            for (ptrdiff_t text = 0, at = 0; text < texts; text++) {                                                \
                WORD least[TILE];                                                                                   \
                memset(least, 0xff, sizeof least);                                                                  \
                for (; at < ends[text]; at++)                                                                       \
                    for (int k = 0; k < TILE; k++) {                                                                \
                        WORD product = (WORD)(hashes[at] * factor[k]);                                              \
                        least[k] = product < least[k] ? product : least[k];                                         \
                    }                                                                                               \
                memcpy(out + text * width + tile, least, used);                                                     \
            }                                                                                                       \
        }                                                                                                           \
        return 0;                                                                                                   \
    }

DEFINE_MINHASH(minhash_32, uint32_t)
DEFINE_MINHASH(minhash_64, uint64_t)
