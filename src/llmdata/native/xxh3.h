/* XXH3-64 (Yann Collet's xxHash, its specification) of at most 128 bytes: the hash of nearly every word. */
#include "native.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian machines; NumPy serves others"
#endif

#define XXH3_LONGEST 128

static inline uint64_t read_32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t read_64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t fold(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The first of the published secret's numbers. */
static const uint64_t SECRET[16] = {
    0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072,
    0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82, 0x8e2443f7744608b8, 0x4c263a81e69035e0,
    0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
    0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8,
};

static inline uint64_t mix_16(const uint8_t *at, const uint64_t *secret, uint64_t seed) {
    return fold(read_64(at) ^ (secret[0] + seed), read_64(at + 8) ^ (secret[1] - seed));
}

static inline uint64_t xxh3(const uint8_t *at, ptrdiff_t length, uint64_t seed) {
    uint64_t hash, size = (uint64_t)length;
    if (length > 16) {
        hash = size * 0x9E3779B185EBCA87u;
        for (ptrdiff_t pair = (length - 1) / 32; pair >= 0; pair--)
            hash += mix_16(at + 16 * pair, SECRET + 4 * pair, seed) +
                    mix_16(at + length - 16 * (pair + 1), SECRET + 4 * pair + 2, seed);
    } else if (length > 8) {
        uint64_t low = read_64(at) ^ ((SECRET[3] ^ SECRET[4]) + seed);
        uint64_t high = read_64(at + length - 8) ^ ((SECRET[5] ^ SECRET[6]) - seed);
        hash = size + __builtin_bswap64(low) + high + fold(low, high);
    } else if (length > 3) {
        seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
        hash = (read_32(at + length - 4) + (read_32(at) << 32)) ^ ((SECRET[1] ^ SECRET[2]) - seed);
        hash ^= (hash << 49 | hash >> 15) ^ (hash << 24 | hash >> 40);
        hash *= 0x9FB21C651E98DF25u;
        hash ^= (hash >> 35) + size;
        hash *= 0x9FB21C651E98DF25u;
        return hash ^ hash >> 28;
    } else {
        uint64_t bytes = (uint64_t)at[0] << 16 | (uint64_t)at[length >> 1] << 24 | at[length - 1] | size << 8;
        hash = bytes ^ (((SECRET[0] & 0xffffffffu) ^ SECRET[0] >> 32) + seed);
        hash ^= hash >> 33;
        hash *= 0xC2B2AE3D27D4EB4Fu;
        hash ^= hash >> 29;
        hash *= 0x165667B19E3779F9u;
        return hash ^ hash >> 32;
    }
    hash ^= hash >> 37;
    hash *= 0x165667919E3779F9u;
    return hash ^ hash >> 32;
}
