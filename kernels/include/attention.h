// What a block of kernels/attention.hip works with: sizes, arguments, memory on the chip, and the running softmax.
#pragma once

#include "exp.h"
#include "kv_rows.h"

namespace attention {

constexpr uint32_t THREADS = 256;
constexpr uint32_t ROWS = 16;
constexpr uint32_t CHUNK = 256;
constexpr uint32_t SLAB = 32;
constexpr float NO_SCORE = -__builtin_inff();

// While scores are computed, a thread has 4 rows and every 64th key.
constexpr uint32_t SCORE_ROWS = 4;
constexpr uint32_t SCORE_KEYS = 4;
constexpr uint32_t KEY_STEP = CHUNK / SCORE_KEYS;
// While weights are computed, 16 threads have a row.
constexpr uint32_t LANES = THREADS / ROWS;
// While values are added, a thread has 4 rows, or 2 where heads have at most 64 elements, and a pair of elements of each, or
// two pairs where they have more than 128.
constexpr uint32_t MEAN_ROWS = 4;
constexpr uint32_t PAIR = 2;
constexpr uint32_t PAIRS = 2;
constexpr uint32_t PAIR_STEP = THREADS / (ROWS / MEAN_ROWS) * PAIR;

// What is loaded at once.
struct alignas(16) Piece {
    uint32_t words[4];
};
template <typename T>
constexpr uint32_t PIECE = sizeof(Piece) / sizeof(T);

// Pieces of each key that are on the chip at once, and those with a gap that spreads keys over the memory's banks.
constexpr uint32_t KEY_PIECES = 4;
constexpr uint32_t KEY_PITCH = KEY_PIECES + 1;
// Elements of each key that these are, and of the queries, as many for a thread.
template <typename T>
constexpr uint32_t KEY_ELEMENTS = KEY_PIECES *PIECE<T>;
template <typename T>
constexpr uint32_t QUERY_LOADS = ROWS *KEY_ELEMENTS<T> / THREADS;
// Pieces of values that are on the chip at once.
constexpr uint32_t VALUE_LOADS = 2;
constexpr uint32_t VALUE_PIECES = VALUE_LOADS * THREADS;
// Scores of a row, with a gap.
constexpr uint32_t SCORE_PITCH = CHUNK + LANES;

template <typename T>
struct Call {
    const float *q;
    KvRows<const T> cache;
    float *out;
    float *partials;
    uint32_t *counters;
    float scale;
    uint32_t tokens;
    uint32_t kv_heads;
    uint32_t group;
    uint32_t head_dim;
    uint32_t len;
    uint32_t chunks;
};

// By which the sums so far and those of a chunk are multiplied before they are added.
struct Factors {
    float so_far;
    float of_chunk;
};

// What is on the chip.
struct Shared {
    union {
        struct {
            Piece keys[CHUNK * KEY_PITCH];
            float q[ROWS * SLAB];
        } dots;
        struct {
            // Scores, then weights.
            float scores[ROWS * SCORE_PITCH];
            Piece values[VALUE_PIECES];
        } means;
    };
    // Of each row: elements before it in q and in out, keys that it sees, factors of the chunk, sum of weights.
    uint64_t offset[ROWS];
    uint32_t visible[ROWS];
    Factors factors[ROWS];
    float sum[ROWS];
    // What the tile's counter was.
    uint32_t turn;
};

// The softmax of a row over some keys: the largest score and the sum of e^(score - max).
struct Softmax {
    float max = NO_SCORE;
    float sum = 0.0f;
};

// A thread's sums of weights times values.
struct Means {
    float of[MEAN_ROWS][PAIRS][PAIR] = {};
};

// What is subtracted from scores. Scores of -infinity weigh nothing, also while no other was seen.
__device__ static inline float base_of(float max) { return max == NO_SCORE ? 0.0f : max; }

// Adds a chunk to a row's softmax so far.
__device__ static inline Factors absorb(Softmax &so_far, const Softmax &of_chunk) {
    const float max = of_chunk.max > so_far.max ? of_chunk.max : so_far.max;
    const float base = base_of(max);
    const Factors factors = {exp_nonpositive(so_far.max - base), exp_nonpositive(of_chunk.max - base)};
    so_far.max = max;
    so_far.sum = __builtin_fmaf(so_far.sum, factors.so_far, of_chunk.sum * factors.of_chunk);
    return factors;
}

// Adds a chunk's sum to that so far.
__device__ static inline void absorb(float &so_far, const Factors &factors, float of_chunk) {
    so_far = __builtin_fmaf(so_far, factors.so_far, of_chunk * factors.of_chunk);
}

__device__ static inline uint32_t at_most(uint32_t value, uint32_t limit) { return value < limit ? value : limit; }

// How many of the `count` keys from `start` on are among the first `visible` ones. It has no condition for a reason: of
// `visible > start ? at_most(visible - start, count) : 0` clang 22 drops the comparison where the result is compared again.
__device__ static inline uint32_t seen(uint32_t visible, uint32_t start, uint32_t count) {
    return at_most(visible, start + count) - at_most(visible, start);
}

// A piece of a row of the cache. Rows begin at multiples of a piece.
template <typename T>
__device__ static inline Piece load_piece(const T *at) {
    Piece piece;
    __builtin_memcpy(&piece, __builtin_assume_aligned(at, sizeof piece), sizeof piece);
    return piece;
}

// COUNT elements on the chip, from element `at` of `pieces` on, widened.
template <typename T, uint32_t COUNT>
__device__ static inline void widen_from(const Piece *pieces, uint32_t at, float (&to)[COUNT]) {
    T elements[COUNT];
    constexpr uint32_t ALIGNMENT = sizeof elements < sizeof(Piece) ? sizeof elements : sizeof(Piece);
    __builtin_memcpy(elements, __builtin_assume_aligned((const T *)pieces + at, ALIGNMENT), sizeof elements);
    for (uint32_t i = 0; i < COUNT; ++i) to[i] = widen(elements[i]);
}

}  // namespace attention
