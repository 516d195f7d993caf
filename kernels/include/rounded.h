// Rows rounded to 8 bits for each 32 elements, which the threads of a block do together: 32 elements become whole numbers from -127
// to 127, the levels, and one scale. Their bits are those of crates/kernels-nn/src/cpu/quantized/token.rs.
#pragma once

#include "dot4.h"
#include "gemv.h"

namespace rounded {

// Elements that share a scale, of which a thread takes a half.
constexpr uint32_t GROUP = 32;
constexpr uint32_t HALF = GROUP / 2;
constexpr float MOST = 127.0f;
// 1.5 * 2^23: adding it rounds to the nearest whole number, which the low byte of the sum then holds.
constexpr float WHOLE = 12582912.0f;

__device__ static inline uint32_t bits_of(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

__device__ static inline float of_bits(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

// The levels of a half, four in a word, and the scale of the group, whose other half the next lane has. A group that holds NaN or
// infinity has NaN for a scale.
__device__ static inline float round(const float (&x)[HALF], uint32_t (&levels)[HALF / 4]) {
    // Magnitudes are in order as whole numbers too, with infinity and NaN behind all others.
    uint32_t most = 0;
    for (uint32_t i = 0; i < HALF; ++i) {
        const uint32_t magnitude = bits_of(x[i]) & 0x7fffffff;
        most = magnitude > most ? magnitude : most;
    }
    const uint32_t other = lane_xor<1>(most);
    most = other > most ? other : most;
    const float largest = of_bits(most);
    const float scale = largest / MOST;
    const float inverse = scale > 0.0f ? MOST / largest : 0.0f;
    for (uint32_t word = 0; word < HALF / 4; ++word) {
        levels[word] = 0;
        for (uint32_t i = 0; i < 4; ++i) {
            // The inverse of a subnormal scale may be infinite.
            const float level = clamped(x[4 * word + i] * inverse, -MOST, MOST);
            levels[word] |= (bits_of(level + WHOLE) & 0xff) << 8 * i;
        }
    }
    return most < 0x7f800000 ? scale : __builtin_nanf("");
}

// ELEMENTS elements of ROWS rows.
template <uint32_t ROWS, uint32_t ELEMENTS>
struct Stage {
    static constexpr uint32_t LEN = ELEMENTS;
    // Halves lie apart, so that lanes which load one each meet few banks twice.
    static constexpr uint32_t HALF_PITCH = ELEMENTS / 2 + HALF;

    alignas(16) uint8_t levels[ROWS][2 * HALF_PITCH];
    float scales[ROWS][ELEMENTS / GROUP];

    // Rounds whole groups, `elements` of each of `rows` rows, of which load(row, at, chunk) gives the CHUNK elements from `at` on.
    template <typename Load>
    __device__ inline void round_rows(uint32_t rows, uint32_t elements, Load load) {
        // Threads may still read what was rounded before.
        __syncthreads();
        for (uint32_t row = 0; row < rows; ++row) {
            for (uint32_t base = 0; base < elements; base += GROUPS * LANES * HALF) {
                const uint32_t own = base + threadIdx.x * HALF;
                // Those beyond the last half take it too, since all lanes take part.
                const uint32_t at = own < elements ? own : elements - HALF;
                float x[HALF];
                for (uint32_t i = 0; i < HALF; i += CHUNK) load(row, at + i, *(float(*)[CHUNK])(x + i));
                uint32_t words[HALF / 4];
                const float scale = round(x, words);
                if (own >= elements) continue;
                __builtin_memcpy(__builtin_assume_aligned(place(row, at), 16), words, sizeof words);
                if (at % GROUP == 0) scales[row][at / GROUP] = scale;
            }
        }
        __syncthreads();
    }

    // Where a row has the levels from element `at` on.
    __device__ inline uint8_t *place(uint32_t row, uint32_t at) {
        return levels[row] + at / HALF % 2 * HALF_PITCH + at / GROUP * HALF + at % HALF;
    }

    // COUNT words of levels from element `at` on, a multiple of as many, within a half.
    template <uint32_t COUNT>
    __device__ inline void load(uint32_t row, uint32_t at, uint32_t *to) {
        __builtin_memcpy(to, __builtin_assume_aligned(place(row, at), COUNT * 4), COUNT * 4);
    }
};

}  // namespace rounded
