// ggml's quantised blocks, of which a lane unpacks PIECE elements at a time in its registers; crates/kernels-nn/src/blocks says
// what the bytes mean. An element is `scale * (level - ZERO) - minimum`. Each format has
//
//   LEN, BYTES              of a block
//   SPAN                    parts of CHUNK elements that share scale and minimum, and lie in one group of 32
//   ZERO, IS_SIGNED         of levels; those that are not signed are below 64
//   HAS_MINIMA              whether elements have a minimum
//   load(base, offset, at)  reads piece `at` of the block that lies `offset` bytes behind `base`, which is a multiple of 4
//   place(at, part)         the first of the CHUNK elements of a part, within the block
//   levels(part, i)         four levels of a part: bytes of word i
//   scale_of(part), minimum_of(part)
//
// Scales have 11 bits, those of their groups at most 7, levels at most 7: products of them are exact, so that a fused
// multiply-add rounds once where ggml rounds a product and a sum.
//
// Blocks of an even number of bytes begin at any multiple of 2. Cards are fastest where an access is aligned to 4, so such a block
// is read in words from the multiple of 4 that is next to it, and shifted.
#pragma once

#include "rounded.h"

// Elements of a piece, and parts of CHUNK of them.
constexpr uint32_t PIECE = 32;
constexpr uint32_t PARTS = PIECE / CHUNK;

namespace blocks {

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
    return (part < 2 ? words[2 * part + i] : words[2 * part - 4 + i] >> 4) & 0x0f0f0f0f;
}

// Bits 0 to 3, each as bit 4 of a byte.
__device__ static inline uint32_t sixteens(uint32_t bits) {
    // The factor puts bit b at b, b + 7, b + 14 and b + 21, where no two meet.
    return ((bits & 0xf) * 0x204081 & 0x01010101) << 4;
}

// What all formats have; B is the format.
template <typename B>
struct Format {
    // The elements of a part in f32, with ggml's bits.
    __device__ void widen(uint32_t part, float (&to)[CHUNK]) const {
        const B &piece = static_cast<const B &>(*this);
        for (uint32_t i = 0; i < CHUNK; ++i) {
            const uint32_t four = piece.levels(part, i / 4);
            if constexpr (B::IS_SIGNED) {
                to[i] = (float)(int8_t)(four >> 8 * (i % 4)) * piece.scale_of(part);
            } else if constexpr (B::HAS_MINIMA) {
                to[i] = __builtin_fmaf(level(opaque(four), i % 4), piece.scale_of(part), -piece.minimum_of(part));
            } else {
                to[i] = level_above(opaque(four), i % 4, (float)B::ZERO) * piece.scale_of(part);
            }
        }
    }
};

// Blocks of 32 elements, which are a piece, with one scale.
template <typename B, uint32_t ZERO_LEVEL>
struct Even : Format<B> {
    static constexpr uint32_t LEN = 32;
    static constexpr uint32_t SPAN = PARTS;
    static constexpr uint32_t ZERO = ZERO_LEVEL;
    static constexpr bool IS_SIGNED = false;
    static constexpr bool HAS_MINIMA = false;
    float scale;

    __device__ static uint32_t place(uint32_t, uint32_t part) { return part * CHUNK; }

    __device__ float scale_of(uint32_t) const { return scale; }

    __device__ float minimum_of(uint32_t) const { return 0.0f; }
};

struct Q8_0 : Even<Q8_0, 0> {
    static constexpr uint32_t BYTES = 34;
    static constexpr bool IS_SIGNED = true;
    uint32_t words[8];

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        scale = load_behind_half(base, offset, words);
    }

    __device__ uint32_t levels(uint32_t part, uint32_t i) const { return words[2 * part + i]; }
};

struct Q4_0 : Even<Q4_0, 8> {
    static constexpr uint32_t BYTES = 18;
    uint32_t words[4];

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        scale = load_behind_half(base, offset, words);
    }

    __device__ uint32_t levels(uint32_t part, uint32_t i) const { return nibbles(words, part, i); }
};

// The levels of Q5_0 and Q5_1.
struct Fifths {
    uint32_t fifth;
    uint32_t low[4];

    // Word i of a part.
    __device__ uint32_t of(uint32_t part, uint32_t i) const {
        return nibbles(low, part, i) | sixteens(fifth >> (part * CHUNK + i * 4));
    }
};

struct Q5_0 : Even<Q5_0, 16> {
    static constexpr uint32_t BYTES = 22;
    Fifths fifths;

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        uint32_t words[5];
        scale = load_behind_half(base, offset, words);
        fifths = {words[0], {words[1], words[2], words[3], words[4]}};
    }

    __device__ uint32_t levels(uint32_t part, uint32_t i) const { return fifths.of(part, i); }
};

struct Q5_1 : Even<Q5_1, 0> {
    static constexpr uint32_t BYTES = 24;
    static constexpr bool HAS_MINIMA = true;
    Fifths fifths;
    float added;

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t) {
        uint32_t words[6];
        load_words_of(base, offset, words);
        scale = half_of(words[0]);
        added = half_of(words[0] >> 16);
        fifths = {words[1], {words[2], words[3], words[4], words[5]}};
    }

    __device__ uint32_t levels(uint32_t part, uint32_t i) const { return fifths.of(part, i); }

    __device__ float minimum_of(uint32_t) const { return -added; }
};

// Blocks of 256 elements in eight groups, each with a scale and a minimum. A piece has 16 elements of either of two groups that
// follow each other.
template <typename B>
struct Grouped : Format<B> {
    static constexpr uint32_t LEN = 256;
    static constexpr uint32_t SPAN = 2;
    static constexpr uint32_t ZERO = 0;
    static constexpr bool IS_SIGNED = false;
    static constexpr bool HAS_MINIMA = true;
    // Bytes that scales and minima take.
    static constexpr uint32_t HEAD = 16;
    float scales[2];
    float minima[2];

    // Those of groups 2 * pair and the next.
    __device__ void load_scales(const uint8_t *base, uint32_t offset, uint32_t pair) {
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

    __device__ static uint32_t place(uint32_t at, uint32_t part) {
        return at / 2 * 64 + part / 2 * 32 + at % 2 * 16 + part % 2 * CHUNK;
    }

    __device__ float scale_of(uint32_t part) const { return scales[part / 2]; }

    __device__ float minimum_of(uint32_t part) const { return minima[part / 2]; }
};

struct Q4_K : Grouped<Q4_K> {
    static constexpr uint32_t BYTES = 144;
    uint32_t words[4];

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t at) {
        load_scales(base, offset, at / 2);
        load_words_of(base, offset + HEAD + at * 16, words);
    }

    __device__ uint32_t levels(uint32_t part, uint32_t i) const { return nibbles(words, part, i); }
};

struct Q5_K : Grouped<Q5_K> {
    static constexpr uint32_t BYTES = 176;
    // Bits 0 and 1 of each byte are those of the two groups.
    uint32_t fifths[4];
    uint32_t low[4];

    __device__ void load(const uint8_t *base, uint32_t offset, uint32_t at) {
        load_scales(base, offset, at / 2);
        load_words_of(base, offset + HEAD + at % 2 * 16, fifths);
        for (uint32_t i = 0; i < 4; ++i) fifths[i] >>= at / 2 * 2;
        load_words_of(base, offset + HEAD + 32 + at * 16, low);
    }

    __device__ uint32_t levels(uint32_t part, uint32_t i) const {
        return nibbles(low, part, i) | (fifths[part % 2 * 2 + i] << (part < 2 ? 4 : 3) & 0x10101010);
    }
};

struct Q6_K : Format<Q6_K> {
    static constexpr uint32_t LEN = 256;
    static constexpr uint32_t BYTES = 210;
    static constexpr uint32_t SPAN = 1;
    static constexpr uint32_t ZERO = 32;
    static constexpr bool IS_SIGNED = false;
    static constexpr bool HAS_MINIMA = false;
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

    __device__ uint32_t levels(uint32_t part, uint32_t i) const {
        const uint32_t four = low[part % 2][i] >> (part < 2 ? 0 : 4) & 0x0f0f0f0f;
        const uint32_t two = high[i];
        const uint32_t moved = part == 0 ? two << 4 : part == 1 ? two << 2 : part == 2 ? two : two >> 2;
        return four | (moved & 0x30303030);
    }

    __device__ float scale_of(uint32_t part) const { return scales[part]; }

    __device__ float minimum_of(uint32_t) const { return 0.0f; }
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

// A piece of a rounded row, for the rows of a weight of blocks B.
template <typename B>
struct Factor {
    static constexpr uint32_t SPANS = PARTS / B::SPAN;
    // As levels of 8 bits.
    static constexpr uint32_t LESS_ZERO = (256 - B::ZERO) % 256 * 0x01010101;
    static constexpr uint32_t ONE = 0x01010101;

    uint32_t levels[PARTS][2];
    float scales[SPANS];
    // What the sum of a span's products begins with, as levels of the weight are stored from ZERO on.
    int32_t starts[SPANS];
    // What a minimum is multiplied with.
    float sums[SPANS];

    // Piece `piece` of what a stage has of a row.
    template <typename Stage>
    __device__ void load(Stage &stage, uint32_t row, uint32_t piece) {
        constexpr uint32_t AT_ONCE = B::SPAN > 1 ? 2 : 1;
        for (uint32_t part = 0; part < PARTS; part += AT_ONCE) {
            stage.template load<2 * AT_ONCE>(row, first_of_part<B>(piece, part), levels[part]);
        }
        for (uint32_t span = 0; span < SPANS; ++span) {
            scales[span] = stage.scales[row][first_of_part<B>(piece, span * B::SPAN) / rounded::GROUP];
            starts[span] = B::ZERO == 0 ? 0 : whole_product(LESS_ZERO, span);
            sums[span] = B::HAS_MINIMA ? scales[span] * (float)whole_product(ONE, span) : 0.0f;
        }
    }

    // The levels of a span with four levels that repeat.
    __device__ int32_t whole_product(uint32_t four, uint32_t span) const {
        int32_t whole = 0;
        for (uint32_t word = 0; word < 2 * B::SPAN; ++word) {
            whole = dot4(four, levels[span * B::SPAN + word / 2][word % 2], whole);
        }
        return whole;
    }
};

// Adds the products of a piece to a sum, span by span: products of levels are whole numbers, whose sum is exact.
template <typename B>
__device__ static inline void add_products(const B &piece, const Factor<B> &x, float &sum) {
    for (uint32_t span = 0; span < Factor<B>::SPANS; ++span) {
        const uint32_t first = span * B::SPAN;
        int32_t whole = x.starts[span];
        for (uint32_t word = 0; word < 2 * B::SPAN; ++word) {
            const uint32_t part = first + word / 2;
            whole = dot4(piece.levels(part, word % 2), x.levels[part][word % 2], whole);
        }
        sum = __builtin_fmaf(piece.scale_of(first) * x.scales[span], (float)whole, sum);
        if constexpr (B::HAS_MINIMA) sum = __builtin_fmaf(-piece.minimum_of(first), x.sums[span], sum);
    }
}

}  // namespace blocks
