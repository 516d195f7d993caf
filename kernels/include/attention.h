// What a block of include/attention_block.h works with: sizes, arguments, memory on the chip, and the running softmax.
#pragma once

#include "exp.h"
#include "kv_rows.h"
#include "matrix.h"
#include "per_head.h"

namespace attention {

constexpr uint32_t THREADS = 256;
constexpr uint32_t ROWS = 16;
constexpr uint32_t CHUNK_SHIFT = 8;
constexpr uint32_t CHUNK = 1u << CHUNK_SHIFT;
// Each span of a split leaves 16 rows of sums, which are written and read once more than keys and values: 3% of the traffic of
// a span of this many keys and values of 2 bytes.
constexpr uint32_t SPAN = 4 * CHUNK;
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
    // The first sequence, and tokens of each.
    uint32_t sequence;
    uint32_t tokens;
    uint32_t kv_heads;
    uint32_t group;
    uint32_t head_dim;
    // Keys that every token sees.
    uint32_t prefix;
    // Spans of a split.
    uint32_t spans;
};

// Which rows a block takes: of which sequence of the launch and key and value head, and from which row on.
struct Tile {
    uint32_t sequence;
    uint32_t kv_head;
    uint32_t first_row;
    // The place among all tiles.
    uint64_t index;
};

// The tile `at` of HEIGHT rows, if each sequence and head has `tiles`. The last tokens see the most keys, so they come first.
template <uint32_t HEIGHT = ROWS>
__device__ static inline Tile tile_of(uint32_t at, uint32_t kv_heads, uint32_t tiles) {
    const uint32_t head = at % (kv_heads * tiles) % kv_heads;
    const uint32_t sequence = at / (kv_heads * tiles);
    const uint32_t of_head = tiles - 1 - at % (kv_heads * tiles) / kv_heads;
    return {sequence, head, of_head * HEIGHT, ((uint64_t)sequence * kv_heads + head) * tiles + of_head};
}

// By which the sums so far and those of a chunk are multiplied before they are added.
struct Factors {
    float so_far;
    float of_chunk;
};

// Where the sequence's keys of one head lie, for `locate`.
struct Blocks {
    // The sequence's blocks, or null: then it has the block of its own number.
    const GPU_GLOBAL uint32_t *table;
    uint32_t sequence;
    uint32_t shift;
    uint64_t stride;
    // Elements before the head in each block.
    uint64_t head;
};

template <typename T>
__device__ static inline Blocks blocks_of(const Call<T> &call, const Tile &tile) {
    const KvRows<const T> &cache = call.cache;
    const uint32_t sequence = call.sequence + tile.sequence;
    const uint32_t *table = cache.table ? cache.table + (uint64_t)sequence * cache.table_len : nullptr;
    return {(const GPU_GLOBAL uint32_t *)table, sequence, cache.block_shift, cache.block_stride,
            tile.kv_head * cache.head_stride};
}

// The softmax of a row over some keys: the largest score and the sum of e^(score - max).
struct Softmax {
    float max = NO_SCORE;
    float sum = 0.0f;
};

#if defined(GPU_MATRIX)
// Waves of a block, and the heads that they attend with, see attention_waves.h.
constexpr uint32_t WAVES = THREADS / matrix::LANES;
constexpr uint32_t WAVE_HEAD_DIM = 128;
constexpr uint32_t WAVE_FRAGMENTS = WAVE_HEAD_DIM / matrix::SIDE;
// Fragments of sums that are on the chip at once while waves meet, each of a sum for every thread of the block.
constexpr uint32_t MET_FRAGMENTS = 2;
static_assert(matrix::SIDE * matrix::SIDE == THREADS, "a thread has a sum of a fragment");

// What waves have on the chip.
struct WaveShared {
    union {
        struct {
            // In two pieces, with a gap.
            alignas(16) bf16_t queries[2][ROWS][WAVE_HEAD_DIM + matrix::UNIT];
            // Of each wave, in two pieces: units of keys at `weight_place`.
            alignas(16) bf16_t weights[WAVES][2][ROWS][matrix::STEP];
        };
        float sums[WAVES][MET_FRAGMENTS][THREADS];
    };
    // Each wave's softmax of each row, and what its sums are multiplied by.
    float max[WAVES][ROWS];
    float sum[WAVES][ROWS];
    float factor[WAVES][ROWS];
    // Of all waves.
    float all_max[ROWS];
    float all_sum[ROWS];
    // Threads that met sums that are not finite.
    uint32_t special;
};
#endif

// Spans that waves cut a sequence into, as powers of two: at most so many, for any number of heads so many, and between them as
// many as make enough blocks.
constexpr uint32_t MOST_SPANS_SHIFT = 6;
constexpr uint32_t MOST_SPANS = 1u << MOST_SPANS_SHIFT;
constexpr uint32_t LEAST_SPANS_SHIFT = 3;
constexpr uint32_t ENOUGH_BLOCKS = 128;
// Elements of a row's softmax that a span leaves, beside the row's sums.
constexpr uint32_t PARTIAL_SOFTMAX = 2;

// Where sums go.
struct Results {
    GPU_GLOBAL float *out;
    // Those of the tile's spans: softmaxes [16, spans, 2], and sums [spans, 16, row_len].
    GPU_GLOBAL float *softmaxes;
    GPU_GLOBAL float *sums;
    GPU_GLOBAL uint32_t *counter;
    uint32_t spans;
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
#if defined(GPU_MATRIX)
        WaveShared waves;
        // Of each row, what a span's sums are multiplied by.
        float span_factors[ROWS][MOST_SPANS];
#endif
    };
    // Elements before the first key of the chunk in each of the blocks that it lies in.
    uint64_t rows[CHUNK];
    // What all threads need now and then is here, as a block has few registers for what its threads have in common.
    Blocks sequence;
    Results results;
    // Of each row: elements before it in q and in out, keys that it sees, factors of the chunk, sum of weights.
    uint64_t offset[ROWS];
    uint32_t visible[ROWS];
    Factors factors[ROWS];
    float sum[ROWS];
    // What the tile's counter was.
    uint32_t turn;
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
// `visible > start ? at_most(visible - start, count) : 0` clang 22.1 at -O3 drops the comparison in `add_values`.
__device__ static inline uint32_t seen(uint32_t visible, uint32_t start, uint32_t count) {
    return at_most(visible, start + count) - at_most(visible, start);
}

// A piece of a row of the cache. Rows begin at multiples of a piece.
template <typename T>
__device__ static inline Piece load_piece(const T *at) {
    const words_t words = load_words(at);
    Piece piece;
    __builtin_memcpy(&piece, &words, sizeof piece);
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

// Where queries and keys come from memory.
template <typename T>
struct NothingFresh {
    static constexpr bool QUERIES = false;

    __device__ uint32_t in_memory(uint32_t, uint32_t count) const { return count; }
    __device__ float query(uint32_t, uint32_t, uint32_t) const { return 0.0f; }
    __device__ Piece key_piece(uint32_t) const { return {}; }
    __device__ Piece value_piece(uint32_t) const { return {}; }
};

}  // namespace attention
