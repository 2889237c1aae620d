/* Characters of UTF-8. */
#ifndef UTF8_H
#define UTF8_H
#include "native.h"

/* The character at `at`, which lies before `end`, and its length in bytes; what is no UTF-8 counts byte by byte. */
static inline uint32_t character(const uint8_t *at, const uint8_t *end, size_t *length) {
    size_t wanted = *at < 0xC0 ? 1 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : 4;
    if (wanted > (size_t)(end - at)) wanted = 1;
    *length = wanted;
    if (wanted == 1) return *at;
    uint32_t point = *at & (0x7Fu >> wanted);
    for (size_t k = 1; k < wanted; k++) point = point << 6 | (at[k] & 0x3F);
    return point;
}

static inline int is_blank(uint32_t point) { /* as str.isspace() */
    if (point < 0x80) return (point >= 9 && point <= 13) || (point >= 28 && point <= 32);
    return point == 0x85 || point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 ||
           point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

static inline uint8_t lower(uint8_t byte) { /* of ASCII */
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

/* Whether `bytes`, in lower case, are `word`. */
static inline int is_lower(const uint8_t *bytes, const void *word, size_t length) {
    for (size_t k = 0; k < length; k++)
        if (lower(bytes[k]) != ((const uint8_t *)word)[k]) return 0;
    return 1;
}

#endif
