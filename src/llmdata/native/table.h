/* Words by number, looked up by open addressing. */
#ifndef TABLE_H
#define TABLE_H
#include "utf8.h"

/* Word w is `letters[starts[w]:starts[w + 1]]`; of the slots, a power of two of them and more than there are words, each
   holds a number and one, or 0. */
typedef struct {
    const uint8_t *letters;
    const int64_t *starts;
    const int32_t *slots;
    size_t mask;
} Table;

/* By FNV-1a of the letters in lower case. Where a table lies is its seed: nobody can make words that all fall together. */
static inline size_t slot_of(const int32_t *slots, size_t mask, const uint8_t *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)(uintptr_t)slots;
    for (size_t k = 0; k < length; k++) hash = (hash ^ lower(bytes[k])) * 0x100000001b3u;
    return (hash ^ hash >> 32) & mask;
}

/* The number of the word `bytes`, as it is or in lower case; -1 if there is none. */
static inline int32_t look_up(const Table *table, const uint8_t *bytes, size_t length, int in_lower_case) {
    for (size_t slot = slot_of(table->slots, table->mask, bytes, length); table->slots[slot]; slot = (slot + 1) & table->mask) {
        int32_t word = table->slots[slot] - 1;
        const uint8_t *known = table->letters + table->starts[word];
        if ((size_t)(table->starts[word + 1] - table->starts[word]) == length &&
            (in_lower_case ? is_lower(bytes, known, length) : !memcmp(bytes, known, length)))
            return word;
    }
    return -1;
}

#endif
