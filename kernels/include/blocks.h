// ggml's quantised blocks, of which a lane unpacks PIECE elements at a time in its registers; crates/kernels-nn/src/blocks says
// what the bytes mean. Each format has
//
//   LEN, BYTES              of a block
//   load(base, offset, at)  reads piece `at` of the block that lies `offset` bytes behind `base`, which is a multiple of 4
//   place(at, part)         the first of the CHUNK elements of a part, within the block
//   widen(part, to)         them in f32, with ggml's bits
//
// Scales have 11 bits, those of their groups at most 7, levels at most 7: products of them are exact, so that a fused
// multiply-add rounds once where ggml rounds a product and a sum.
//
// Blocks of an even number of bytes begin at any multiple of 2. Cards are fastest where an access is aligned to 4, so such a block
// is read in words from the multiple of 4 that is next to it, and shifted.
#pragma once

#include "gemv.h"

// Elements of a piece, and parts of CHUNK of them.
constexpr uint32_t PIECE = 32;
constexpr uint32_t PARTS = PIECE / CHUNK;

namespace blocks {

// Rows whose pieces are loaded before those of the first are multiplied: with more, the registers of a lane run out.
constexpr uint32_t ROWS_IN_FLIGHT = 4;

// Pieces of a block.
template <typename B>
constexpr uint32_t PIECES = B::LEN / PIECE;

// COUNT words from a multiple of 4 on.
template <uint32_t COUNT>
__device__ static inline void load_words_of(const uint8_t *base, uint32_t offset, uint32_t (&to)[COUNT]) {
    __builtin_memcpy(to, __builtin_assume_aligned(behind(base, offset), 4), sizeof to);
}

__device__ static inline uint32_t load_half(const uint8_t *base, uint32_t offset) {
    uint16_t bits;
    __builtin_memcpy(&bits, __builtin_assume_aligned(behind(base, offset), 2), sizeof bits);
    return bits;
}

// The f16 in the low half of a word, widened.
__device__ static inline float half_of(uint32_t word) {
    const uint16_t bits = (uint16_t)word;
    f16_t value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return ::widen(value);
}

// Level i of four bytes. Cards convert any byte of a word at once, which the compiler does not see where it knows how the word was
// made.
__device__ static inline float level(uint32_t bytes, uint32_t i) { return (float)(bytes >> 8 * i & 0xff); }

// Level i of four bytes, less `zero`, which is subtracted after the conversion.
__device__ static inline float level_above(uint32_t bytes, uint32_t i, float zero) {
    uint32_t bits;
    __builtin_memcpy(&bits, &zero, sizeof bits);
    bits = opaque(bits);
    __builtin_memcpy(&zero, &bits, sizeof zero);
    return level(bytes, i) - zero;
}

// An f16 and then COUNT words, none of which need be aligned to 4: gives the f16.
template <uint32_t COUNT>
__device__ static inline float load_behind_half(const uint8_t *base, uint32_t offset, uint32_t (&to)[COUNT]) {
    // Where the block begins at a multiple of 4, the first word holds the f16 and a half is left at the end; elsewhere the words
    // are aligned, and the half that is left is the f16.
    const bool is_aligned = offset % 4 == 0;
    uint32_t words[COUNT];
    load_words_of(base, (offset + 2) / 4 * 4, words);
    const uint32_t rest = load_half(base, is_aligned ? offset + 4 * COUNT : offset);
    for (uint32_t i = 0; i < COUNT; ++i) {
        to[i] = shift_pair(i + 1 < COUNT ? words[i + 1] : rest, words[i], is_aligned ? 16 : 0);
    }
    return half_of(is_aligned ? words[0] : rest);
}

// Two words from `offset` on, a multiple of 2; up to four bytes around them are read too.
__device__ static inline void load_two_words(const uint8_t *base, uint32_t offset, uint32_t (&to)[2]) {
    uint32_t words[3];
    load_words_of(base, offset / 4 * 4, words);
    const uint32_t shift = offset % 4 * 8;
    for (uint32_t i = 0; i < 2; ++i) to[i] = shift_pair(words[i + 1], words[i], shift);
}

// 16 bytes whose low halves are 16 levels and whose high halves 16 more: word i of part `part`.
__device__ static inline uint32_t nibbles(const uint32_t (&words)[4], uint32_t part, uint32_t i) {
    return opaque((part < 2 ? words[2 * part + i] : words[2 * part - 4 + i] >> 4) & 0x0f0f0f0f);
}

// Bits 0 to 3, each as bit 4 of a byte.
__device__ static inline uint32_t sixteens(uint32_t bits) {
    // The factor puts bit b at b, b + 7, b + 14 and b + 21, where no two meet.
    return ((bits & 0xf) * 0x204081 & 0x01010101) << 4;
}

struct Q8_0 {
    static constexpr uint32_t LEN = 32;
    static constexpr uint32_t BYTES = 34;
    uint32_t levels[8];
    float scale;

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        scale = load_behind_half(base, offset, levels);
    }

    __device__ static uint32_t place(uint32_t, uint32_t part) { return part * CHUNK; }

    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        for (uint32_t i = 0; i < CHUNK; ++i) {
            const uint32_t word = levels[2 * part + i / 4];
            to[i] = (float)(int8_t)(word >> 8 * (i % 4)) * scale;
        }
    }
};

struct Q4_0 {
    static constexpr uint32_t LEN = 32;
    static constexpr uint32_t BYTES = 18;
    uint32_t levels[4];
    float scale;

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        scale = load_behind_half(base, offset, levels);
    }

    __device__ static uint32_t place(uint32_t, uint32_t part) { return part * CHUNK; }

    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        for (uint32_t i = 0; i < CHUNK; ++i) {
            to[i] = level_above(nibbles(levels, part, i / 4), i % 4, 8.0f) * scale;
        }
    }
};

// The levels of Q5_0 and Q5_1.
struct Fifths {
    uint32_t fifth;
    uint32_t low[4];

    // Word i of a part.
    __device__ uint32_t of(uint32_t part, uint32_t i) const {
        return opaque(nibbles(low, part, i) | sixteens(fifth >> (part * CHUNK + i * 4)));
    }
};

struct Q5_0 {
    static constexpr uint32_t LEN = 32;
    static constexpr uint32_t BYTES = 22;
    Fifths levels;
    float scale;

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        uint32_t words[5];
        scale = load_behind_half(base, offset, words);
        levels = {words[0], {words[1], words[2], words[3], words[4]}};
    }

    __device__ static uint32_t place(uint32_t, uint32_t part) { return part * CHUNK; }

    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        for (uint32_t i = 0; i < CHUNK; ++i) to[i] = level_above(levels.of(part, i / 4), i % 4, 16.0f) * scale;
    }
};

struct Q5_1 {
    static constexpr uint32_t LEN = 32;
    static constexpr uint32_t BYTES = 24;
    Fifths levels;
    float scale;
    float minimum;

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        uint32_t words[6];
        load_words_of(base, offset, words);
        scale = half_of(words[0]);
        minimum = half_of(words[0] >> 16);
        levels = {words[1], {words[2], words[3], words[4], words[5]}};
    }

    __device__ static uint32_t place(uint32_t, uint32_t part) { return part * CHUNK; }

    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        for (uint32_t i = 0; i < CHUNK; ++i) to[i] = __builtin_fmaf(level(levels.of(part, i / 4), i % 4), scale, minimum);
    }
};

// What begins the blocks of Q4_K and Q5_K, for two groups that follow each other.
struct Groups {
    static constexpr uint32_t BYTES = 16;
    float scales[2];
    float minima[2];

    // Those of groups 2 * pair and the next.
    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t pair) {
        uint32_t words[4];
        load_words_of(base, offset, words);
        // Groups 0 to 3 have six bits in words 1 and 2. The others have the low four bits of both in word 3, and the high two above
        // those of the group four before.
        const uint32_t shift = pair % 2 * 16;
        const uint32_t low = words[3] >> shift & 0xffff;
        const uint32_t six = (words[1] >> shift & 0xffff) | (words[2] >> shift) << 16;
        const uint32_t later = ((low | low << 12) & 0x0f0f0f0f) | (six >> 2 & 0x30303030);
        const uint32_t pairs = pair < 2 ? six & 0x3f3f3f3f : later;
        const float scale = half_of(words[0]);
        const float minimum = half_of(words[0] >> 16);
        for (uint32_t i = 0; i < 2; ++i) {
            scales[i] = scale * level(pairs, i);
            minima[i] = minimum * level(pairs, i + 2);
        }
    }

    __device__ float widen(uint32_t group, float level) const {
        return __builtin_fmaf(scales[group], level, -minima[group]);
    }

    // Piece `at` holds 16 elements of either group.
    __device__ static uint32_t place(uint32_t at, uint32_t part) {
        return at / 2 * 64 + part / 2 * 32 + at % 2 * 16 + part % 2 * CHUNK;
    }
};

struct Q4_K {
    static constexpr uint32_t LEN = 256;
    static constexpr uint32_t BYTES = 144;
    Groups groups;
    uint32_t levels[4];

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t at) {
        groups.load(base, offset, at / 2);
        load_words_of(base, offset + Groups::BYTES + at * 16, levels);
    }

    __device__ static uint32_t place(uint32_t at, uint32_t part) { return Groups::place(at, part); }

    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        for (uint32_t i = 0; i < CHUNK; ++i) {
            to[i] = groups.widen(part / 2, level(nibbles(levels, part, i / 4), i % 4));
        }
    }
};

struct Q5_K {
    static constexpr uint32_t LEN = 256;
    static constexpr uint32_t BYTES = 176;
    Groups groups;
    // Bits 0 and 1 of each byte are those of the two groups.
    uint32_t fifths[4];
    uint32_t levels[4];

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t at) {
        groups.load(base, offset, at / 2);
        load_words_of(base, offset + Groups::BYTES + at % 2 * 16, fifths);
        for (uint32_t i = 0; i < 4; ++i) fifths[i] >>= at / 2 * 2;
        load_words_of(base, offset + Groups::BYTES + 32 + at * 16, levels);
    }

    __device__ static uint32_t place(uint32_t at, uint32_t part) { return Groups::place(at, part); }

    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        for (uint32_t i = 0; i < CHUNK; ++i) {
            const uint32_t fifth = fifths[part % 2 * 2 + i / 4] << (part < 2 ? 4 : 3) & 0x10101010;
            to[i] = groups.widen(part / 2, level(opaque(nibbles(levels, part, i / 4) | fifth), i % 4));
        }
    }
};

struct Q6_K {
    static constexpr uint32_t LEN = 256;
    static constexpr uint32_t BYTES = 210;
    // Four bits of parts 0 and 2, and of parts 1 and 3; two bits of all.
    uint32_t low[2][2];
    uint32_t high[2];
    float scales[PARTS];

    // Piece `at` holds eight elements of each of the four parts of 32 in a stretch of 128.
    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t at) {
        const uint32_t stretch = at / 4;
        const uint32_t first = at % 4 * CHUNK;
        for (uint32_t i = 0; i < 2; ++i) load_two_words(base, offset + stretch * 64 + i * 32 + first, low[i]);
        load_two_words(base, offset + 128 + stretch * 32 + first, high);
        const float scale = half_of(load_half(base, offset + 208));
        for (uint32_t part = 0; part < PARTS; ++part) {
            const uint8_t group = *behind(base, offset + 192 + stretch * 8 + part * 2 + first / 16);
            scales[part] = scale * (float)(int8_t)group;
        }
    }

    __device__ static uint32_t place(uint32_t at, uint32_t part) { return at / 4 * 128 + part * 32 + at % 4 * CHUNK; }

    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        for (uint32_t i = 0; i < CHUNK; ++i) {
            const uint32_t four = low[part % 2][i / 4] >> (part < 2 ? 0 : 4) & 0x0f0f0f0f;
            const uint32_t two = high[i / 4];
            const uint32_t moved = part == 0 ? two << 4 : part == 1 ? two << 2 : part == 2 ? two : two >> 2;
            const uint32_t bytes = opaque(four | (moved & 0x30303030));
            to[i] = scales[part] * level_above(bytes, i % 4, 32.0f);
        }
    }
};

// Where a row begins: `offset` bytes behind `base`, which is a multiple of 4 and the same in all threads of a wave.
struct Row {
    const uint8_t *base;
    uint32_t offset;
};

// A piece of a row.
template <typename B>
__device__ static inline B load(const Row &row, uint32_t piece) {
    B loaded;
    loaded.load(row.base, row.offset + piece / PIECES<B> * B::BYTES, piece % PIECES<B>);
    return loaded;
}

// The first element of a part of a piece of a row.
template <typename B>
__device__ static inline uint32_t first_of_part(uint32_t piece, uint32_t part) {
    return piece / PIECES<B> * B::LEN + B::place(piece % PIECES<B>, part);
}

// Adds the products of a piece to a sum, part by part, in ascending order.
template <typename B>
__device__ static inline void add_products(const B &piece, const float (&x)[PARTS][CHUNK], float &sum) {
    for (uint32_t part = 0; part < PARTS; ++part) {
        float w[CHUNK];
        piece.widen(part, w);
        for (uint32_t i = 0; i < CHUNK; ++i) sum = __builtin_fmaf(w[i], x[part][i], sum);
    }
}

}  // namespace blocks
