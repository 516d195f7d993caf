// Attention of a tile of 64 query rows by a block of 256 threads, with matrix units: 32 keys after another, of which all rows
// share what is read (the running softmax is Milakov and Gimelshein's, the tiling Dao's FlashAttention).
//
// Everything that is multiplied is split into bf16: queries and weights into two pieces, high and rest, of which they keep 16
// bits, keys and values of f16 into two, exactly, and those of bf16 are one piece themselves.
//
// Order of all sums, which depends on a token's place in the sequence and on head_dim alone, neither on the other tokens of
// the launch nor on how it is shared out:
//   score       elements in slabs of 32, in ascending order. A slab adds rest(q) high(k), then high(q) rest(k) if there is
//               one, then high(q) high(k). The scale comes last.
//   step        32 keys. Its weights are e^(score - max), max over the keys that the token sees up to here. They are added in
//               four sums of 8, in ascending order, and those as (0 + 1) + (2 + 3). What was summed before is multiplied by
//               e^(max before - max). The products of weights and values are added as those of queries and keys.
//   sequence    steps in ascending order; the division by the sum of weights comes last.
//
// A value or a key that is not finite is a zero to the matrix units, which would spread it to tokens that do not see it: its
// products are added afterwards, where it is seen.
#pragma once

#include "attention.h"
#include "matrix.h"

#if defined(GPU_MATRIX)

namespace attention {

constexpr uint32_t TILE_ROWS = 64;
constexpr uint32_t STEP = matrix::STEP;
constexpr uint32_t TILE_ELEMENTS = 128;
constexpr uint32_t SLABS = TILE_ELEMENTS / STEP;
// Slabs of queries that are on the chip, and in registers.
constexpr uint32_t CHIP_SLABS = matrix::TWICE ? SLABS : 0;
constexpr uint32_t HELD_SLABS = matrix::TWICE ? 1 : SLABS;
// A unit is 8 elements, 16 bytes of bf16. Rows of keys have a gap, which spreads over the memory's banks what is loaded at
// once: one unit of 8 rows, or 4 units of 2 rows.
constexpr uint32_t UNIT = matrix::UNIT;
constexpr uint32_t KEY_GAP = matrix::COLUMNS == 1 ? UNIT : 4 * UNIT;
constexpr uint32_t KEY_UNITS = TILE_ELEMENTS / UNIT;
constexpr uint32_t STEP_UNITS = STEP / UNIT;
// Units of keys that a thread brings to the chip.
constexpr uint32_t LOADS = STEP * KEY_UNITS / THREADS;
// A thread brings so many keys' values, a unit of each.
constexpr uint32_t VALUE_KEYS = 2;

// Each 16 rows have so many waves: they share out the keys while scores are computed, and then the elements.
constexpr uint32_t WAVES_ACROSS = THREADS / matrix::LANES / (TILE_ROWS / matrix::SIDE);
constexpr uint32_t KEY_FRAGMENTS = STEP / matrix::SIDE / WAVES_ACROSS;
constexpr uint32_t VALUE_FRAGMENTS = TILE_ELEMENTS / matrix::SIDE / WAVES_ACROSS;

static_assert(TILE_ROWS * STEP_UNITS == THREADS, "each thread has a unit of a row's weights");
static_assert(STEP / VALUE_KEYS * KEY_UNITS == THREADS, "each thread has a unit of some keys' values");
static_assert(KEY_FRAGMENTS > 0, "each wave has keys");

// Pieces that keys and values of a type are split into.
template <typename T>
constexpr uint32_t PIECES = __is_same(T, bf16_t) ? 1 : 2;

template <typename T>
struct TileShared {
    union {
        alignas(16) bf16_t keys[PIECES<T>][STEP][TILE_ELEMENTS + KEY_GAP];
        // By element: units of 8 keys, at `place`.
        alignas(16) bf16_t values[PIECES<T>][TILE_ELEMENTS][STEP];
    };
    // Slab 0 is for each row's scores and then, in their place, its weights in pieces: where 8 numbers were, 8 high pieces
    // and 8 rests. The others are for queries in pieces, where registers do not hold them. With a gap.
    alignas(16) float slabs[1 + CHIP_SLABS][TILE_ROWS][STEP + 4];
    // Where keys lie, for which a block has too few registers.
    Blocks sequence;
    // Of each row: elements before it in q and in out, keys that it sees, what its sums are multiplied by, sum of weights.
    uint64_t offset[TILE_ROWS];
    uint32_t visible[TILE_ROWS];
    float factors[TILE_ROWS];
    float sum[TILE_ROWS];
    // Threads that met a key, and a value, that is not finite: in this step, and in the one before or after.
    uint32_t special_keys[2];
    uint32_t special_values[2];
};

// Where an element's values have a unit of keys: threads that write one element of 4 units, and those that read one unit of 8
// elements, are in different banks.
__device__ static inline uint32_t place(uint32_t element, uint32_t unit) {
    return (unit ^ element / 2 ^ element / UNIT) % STEP_UNITS;
}

__device__ static inline bool finite(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

template <typename T>
struct TileBlock {
    const Call<T> &call;
    TileShared<T> &shared;
    Tile tile;
    // Tokens of the sequence before those of the launch.
    uint32_t len;
    uint32_t rows;
    // Keys that the last row sees.
    uint32_t end;
    // Of this thread's wave: its first row, and its place among those that have the same rows.
    uint32_t first_row;
    uint32_t across;
    uint32_t lane;
    // The row and the unit of it for which this thread computes weights, and the row's softmax.
    uint32_t row;
    uint32_t unit;
    Softmax softmax;
    matrix::Fragment held[HELD_SLABS][2];
    matrix::Sums sums[VALUE_FRAGMENTS] = {};
    // On their way to the chip.
    T keys[LOADS][UNIT];
    T values[VALUE_KEYS][UNIT];

    __device__ TileBlock(const Call<T> &call_, TileShared<T> &shared_, Tile tile_, uint32_t len_)
        : call(call_), shared(shared_), tile(tile_), len(len_) {
        const uint32_t wave = threadIdx.x / matrix::LANES;
        first_row = wave / WAVES_ACROSS * matrix::SIDE;
        across = wave % WAVES_ACROSS;
        lane = threadIdx.x % matrix::LANES;
        row = threadIdx.x / STEP_UNITS;
        unit = threadIdx.x % STEP_UNITS;
        rows = at_most(call.tokens * call.group - tile.first_row, TILE_ROWS);
        end = visible_of((tile.first_row + rows - 1) / call.group);
        if (threadIdx.x < TILE_ROWS) {
            // Rows beyond the last are the last one again.
            const uint32_t at = tile.first_row + at_most(threadIdx.x, rows - 1);
            const uint32_t token = at / call.group;
            const uint64_t head = (uint64_t)tile.kv_head * call.group + at % call.group;
            shared.offset[threadIdx.x] = ((uint64_t)token * call.kv_heads * call.group + head) * call.head_dim;
            shared.visible[threadIdx.x] = visible_of(token);
        }
        if (threadIdx.x == 0) shared.sequence = blocks_of(call, tile);
        if (threadIdx.x < 2) shared.special_keys[threadIdx.x] = shared.special_values[threadIdx.x] = 0;
        __syncthreads();
    }

    // Keys that a token of the launch sees: those up to itself, and those of the prefix.
    __device__ uint32_t visible_of(uint32_t token) const {
        const uint32_t before = len + token + 1;
        return before < call.prefix ? call.prefix : before;
    }

    // Puts a unit of this thread's row in two pieces in a slab.
    template <bool FINITE>
    __device__ void store_unit(uint32_t slab, const float (&unsplit)[UNIT]) const {
        bf16_t pieces[2][UNIT];
        for (uint32_t i = 0; i < UNIT; ++i) {
            bf16_t both[2];
            matrix::split<FINITE>(unsplit[i], both);
            for (uint32_t piece = 0; piece < 2; ++piece) pieces[piece][i] = both[piece];
        }
        __builtin_memcpy(__builtin_assume_aligned(shared.slabs[slab][row] + unit * UNIT, 16), pieces, sizeof pieces);
    }

    // A piece of the wave's rows of a slab.
    __device__ matrix::Fragment load_rows(uint32_t slab, uint32_t piece) const {
        return matrix::load(lane, [&](uint32_t at, uint32_t at_unit) {
            return (const bf16_t *)(shared.slabs[slab][first_row + at] + at_unit * UNIT) + piece * UNIT;
        });
    }

    __device__ void load_queries() {
        for (uint32_t slab = 0; slab < SLABS; ++slab) {
            if (slab * STEP >= call.head_dim) continue;
            float elements[UNIT];
            for (uint32_t i = 0; i < UNIT; ++i) {
                const uint32_t element = slab * STEP + unit * UNIT + i;
                elements[i] = element < call.head_dim ? call.q[shared.offset[row] + element] : 0.0f;
            }
            if constexpr (matrix::TWICE) {
                store_unit<false>(1 + slab, elements);
            } else {
                // The slab before may still be in use.
                __syncthreads();
                store_unit<false>(0, elements);
                __syncthreads();
                for (uint32_t piece = 0; piece < 2; ++piece) held[slab][piece] = load_rows(0, piece);
            }
        }
    }

    __device__ matrix::Fragment query(uint32_t slab, uint32_t piece) const {
        if constexpr (matrix::TWICE) {
            return load_rows(1 + slab, piece);
        } else {
            return held[slab][piece];
        }
    }

    // A unit of a key's row of keys or values, from `element` on: zeros where there is none.
    __device__ void load_unit(const T *rows_of_cache, uint32_t key, uint32_t element, T (&to)[UNIT]) const {
        for (uint32_t i = 0; i < UNIT; ++i) to[i] = T{};
        if (key >= end || element >= call.cache.row_len) return;
        const Piece piece = load_piece(rows_of_cache + offset(key) + element);
        __builtin_memcpy(to, &piece, sizeof piece);
    }

    // Elements before a key's row in the cache.
    __device__ uint64_t offset(uint32_t key) const {
        const Blocks at = shared.sequence;
        const uint32_t block = at.table ? at.table[key >> at.shift] : at.sequence;
        const uint32_t place = at.table ? key & ((1u << at.shift) - 1) : key;
        return block * at.stride + at.head + (uint64_t)place * call.cache.row_len;
    }

    // Loads the keys from `start` on.
    __device__ void load_keys(uint32_t start) {
        for (uint32_t i = 0; i < LOADS; ++i) {
            const uint32_t at = threadIdx.x + i * THREADS;
            load_unit(call.cache.keys, start + at / KEY_UNITS, at % KEY_UNITS * UNIT, keys[i]);
        }
    }

    // Loads the values of the keys from `start` on.
    __device__ void load_values(uint32_t start) {
        for (uint32_t i = 0; i < VALUE_KEYS; ++i) {
            load_unit(call.cache.values, start + first_value_key() + i, value_unit() * UNIT, values[i]);
        }
    }

    // Neighbouring threads have neighbouring keys' values, and 4 units of each row between them.
    __device__ static uint32_t first_value_key() {
        return (threadIdx.x % 8 + threadIdx.x / 32 % 2 * 8) * VALUE_KEYS;
    }
    __device__ static uint32_t value_unit() { return threadIdx.x / 8 % 4 + threadIdx.x / 64 * 4; }

    // Makes zeros of what is not finite, and says whether there was any.
    template <uint32_t COUNT>
    __device__ static bool clear_special(T (&elements)[COUNT][UNIT]) {
        bool any = false;
        for (uint32_t k = 0; k < COUNT; ++k) {
            for (uint32_t i = 0; i < UNIT; ++i) any |= !finite(widen(elements[k][i]));
        }
        if (any) {
            for (uint32_t k = 0; k < COUNT; ++k) {
                for (uint32_t i = 0; i < UNIT; ++i) {
                    if (!finite(widen(elements[k][i]))) elements[k][i] = T{};
                }
            }
        }
        return any;
    }

    // Puts the keys that were loaded on the chip. `turn` alternates from step to step.
    __device__ void store_keys(uint32_t turn) {
        if (clear_special(keys)) add_shared(&shared.special_keys[turn], 1u);
        for (uint32_t i = 0; i < LOADS; ++i) {
            const uint32_t at = threadIdx.x + i * THREADS;
            bf16_t pieces[PIECES<T>][UNIT];
            for (uint32_t e = 0; e < UNIT; ++e) {
                bf16_t all[PIECES<T>];
                matrix::split<true>(keys[i][e], all);
                for (uint32_t piece = 0; piece < PIECES<T>; ++piece) pieces[piece][e] = all[piece];
            }
            for (uint32_t piece = 0; piece < PIECES<T>; ++piece) {
                bf16_t *to = shared.keys[piece][at / KEY_UNITS] + at % KEY_UNITS * UNIT;
                __builtin_memcpy(__builtin_assume_aligned(to, 16), pieces[piece], sizeof pieces[piece]);
            }
        }
    }

    __device__ void store_values(uint32_t turn) {
        if (clear_special(values)) add_shared(&shared.special_values[turn], 1u);
        const uint32_t key = first_value_key();
        for (uint32_t e = 0; e < UNIT; ++e) {
            const uint32_t element = value_unit() * UNIT + e;
            bf16_t pieces[PIECES<T>][VALUE_KEYS];
            for (uint32_t i = 0; i < VALUE_KEYS; ++i) {
                bf16_t all[PIECES<T>];
                matrix::split<true>(values[i][e], all);
                for (uint32_t piece = 0; piece < PIECES<T>; ++piece) pieces[piece][i] = all[piece];
            }
            for (uint32_t piece = 0; piece < PIECES<T>; ++piece) {
                bf16_t *to = shared.values[piece][element] + place(element, key / UNIT) * UNIT + key % UNIT;
                __builtin_memcpy(__builtin_assume_aligned(to, 4), pieces[piece], sizeof pieces[piece]);
            }
        }
    }

    // Of which what is computed takes no registers outside of where it is.
    __device__ uint32_t head_dim_anew() const { return uniform(anew(call.head_dim)); }

    // Adds a slab's or a step's products, small ones first.
    __device__ void multiply_add(const matrix::Fragment (&rows_of_tile)[2], const matrix::Fragment (&others)[PIECES<T>],
                                 matrix::Sums &to) const {
        matrix::multiply_add(rows_of_tile[1], others[0], lane, to);
        if (PIECES<T> > 1) matrix::multiply_add(rows_of_tile[0], others[PIECES<T> - 1], lane, to);
        matrix::multiply_add(rows_of_tile[0], others[0], lane, to);
    }

    // The scores of the wave's rows for its share of the keys.
    __device__ void score() const {
        const uint32_t head_dim = head_dim_anew();
        for (uint32_t i = 0; i < KEY_FRAGMENTS; ++i) {
            const uint32_t first_key = (across * KEY_FRAGMENTS + i) * matrix::SIDE;
            matrix::Sums dots = {};
            for (uint32_t slab = 0; slab < SLABS; ++slab) {
                if (slab * STEP >= head_dim) continue;
                matrix::Fragment others[PIECES<T>];
                for (uint32_t piece = 0; piece < PIECES<T>; ++piece) {
                    others[piece] = matrix::load(lane, [&](uint32_t key, uint32_t at_unit) {
                        return shared.keys[piece][first_key + key] + slab * STEP + at_unit * UNIT;
                    });
                }
                const matrix::Fragment pieces[2] = {query(slab, 0), query(slab, 1)};
                multiply_add(pieces, others, dots);
            }
            for (uint32_t c = 0; c < matrix::COLUMNS; ++c) {
                for (uint32_t r = 0; r < matrix::ROWS; ++r) {
                    const uint32_t at = first_row + matrix::row_of(lane, r);
                    shared.slabs[0][at][first_key + matrix::column_of(lane, c)] = dots.at[c][r] * call.scale;
                }
            }
        }
    }

    // Adds to this thread's scores the products of the keys' elements that are not finite.
    __device__ void add_special_keys(uint32_t first_key, uint32_t seen_keys) const {
        const float *query = call.q + shared.offset[row];
        GPU_UNROLL(1)
        for (uint32_t key = 0; key < seen_keys; ++key) {
            const T *elements = call.cache.keys + offset(first_key + key);
            float dot = 0.0f;
            GPU_UNROLL(1)
            for (uint32_t element = 0; element < call.head_dim; ++element) {
                const float value = widen(elements[element]);
                if (!finite(value)) dot += query[element] * value;
            }
            shared.slabs[0][row][unit * UNIT + key] += dot * call.scale;
        }
    }

    // Makes weights of this thread's scores.
    __device__ void weigh(uint32_t start, uint32_t turn) {
        const uint32_t first_key = start + unit * UNIT;
        const uint32_t seen_keys = seen(shared.visible[row], first_key, UNIT);
        if (shared.special_keys[turn] != 0) add_special_keys(first_key, seen_keys);
        float scores[UNIT];
        __builtin_memcpy(scores, __builtin_assume_aligned(shared.slabs[0][row] + unit * UNIT, 16), sizeof scores);
        float max = softmax.max;
        const auto keep_larger = [&](float score) { max = score > max ? score : max; };
        for (uint32_t i = 0; i < UNIT; ++i) {
            if (i >= seen_keys) scores[i] = NO_SCORE;
            keep_larger(scores[i]);
        }
        keep_larger(lane_xor<1>(max));
        keep_larger(lane_xor<2>(max));
        const float base = base_of(max);
        float sum = 0.0f;
        for (uint32_t i = 0; i < UNIT; ++i) {
            scores[i] = exp_nonpositive(scores[i] - base);
            sum += scores[i];
        }
        // A weight that is NaN shows in the sum, by which all is divided.
        store_unit<true>(0, scores);
        sum += lane_xor<1>(sum);
        sum += lane_xor<2>(sum);
        const float factor = exp_nonpositive(softmax.max - base);
        softmax.max = max;
        softmax.sum = __builtin_fmaf(softmax.sum, factor, sum);
        if (unit == 0) shared.factors[row] = factor;
        // For the next step.
        if (threadIdx.x == 0) shared.special_keys[turn ^ 1] = shared.special_values[turn ^ 1] = 0;
    }

    // The first of the 16 elements of a fragment of this wave's sums.
    __device__ uint32_t first_element(uint32_t fragment) const {
        return (across * VALUE_FRAGMENTS + fragment) * matrix::SIDE;
    }

    // The elements of which this lane has sums.
    static constexpr uint32_t OWN_ELEMENTS = VALUE_FRAGMENTS * matrix::COLUMNS;
    __device__ uint32_t own_element(uint32_t i) const {
        return first_element(i / matrix::COLUMNS) + matrix::column_of(lane, i % matrix::COLUMNS);
    }

    // Adds the wave's rows of weights times values, for its share of the elements.
    __device__ void add_values(uint32_t start, uint32_t turn) {
        const matrix::Fragment weights[2] = {load_rows(0, 0), load_rows(0, 1)};
        float factors[matrix::ROWS];
        for (uint32_t r = 0; r < matrix::ROWS; ++r) factors[r] = shared.factors[first_row + matrix::row_of(lane, r)];
        const uint32_t head_dim = head_dim_anew();
        for (uint32_t i = 0; i < VALUE_FRAGMENTS; ++i) {
            if (first_element(i) >= head_dim) continue;
            for (uint32_t c = 0; c < matrix::COLUMNS; ++c) {
                for (uint32_t r = 0; r < matrix::ROWS; ++r) sums[i].at[c][r] *= factors[r];
            }
            matrix::Fragment others[PIECES<T>];
            for (uint32_t piece = 0; piece < PIECES<T>; ++piece) {
                others[piece] = matrix::load(lane, [&](uint32_t at, uint32_t keys_unit) {
                    const uint32_t element = first_element(i) + at;
                    return shared.values[piece][element] + place(element, keys_unit) * UNIT;
                });
            }
            multiply_add(weights, others, sums[i]);
        }
        if (shared.special_values[turn] != 0) add_special_values(start);
    }

    // Adds the products of the values that are not finite.
    __device__ void add_special_values(uint32_t start) {
        GPU_UNROLL(1)
        for (uint32_t key = 0; key < at_most(end - start, STEP); ++key) {
            const T *elements = call.cache.values + offset(start + key);
            for (uint32_t i = 0; i < OWN_ELEMENTS; ++i) {
                // Whether the head has it would else be kept throughout.
                const uint32_t element = anew(own_element(i));
                const float value = element < call.head_dim ? widen(elements[element]) : 0.0f;
                if (finite(value)) continue;
                for (uint32_t r = 0; r < matrix::ROWS; ++r) {
                    const uint32_t at = first_row + matrix::row_of(lane, r);
                    const float product = weight(at, key) * value;
                    sums[i / matrix::COLUMNS].at[i % matrix::COLUMNS][r] += start + key < shared.visible[at] ? product : 0.0f;
                }
            }
        }
    }

    __device__ float weight(uint32_t at, uint32_t key) const {
        const bf16_t *pieces = (const bf16_t *)(shared.slabs[0][at] + key / UNIT * UNIT) + key % UNIT;
        return widen(pieces[0]) + widen(pieces[UNIT]);
    }

    __device__ void attend() {
        load_queries();
        load_keys(0);
        load_values(0);
        GPU_UNROLL(1)
        for (uint32_t step = 0; step < (end - 1) / STEP + 1; ++step) {
            const uint32_t start = step * STEP;
            const uint32_t turn = step % 2;
            // The values of the step before may still be in use, and then the scores, and the keys.
            __syncthreads();
            store_keys(turn);
            __syncthreads();
            load_keys(start + STEP);
            score();
            __syncthreads();
            store_values(turn);
            weigh(start, turn);
            __syncthreads();
            load_values(start + STEP);
            add_values(start, turn);
        }
        if (unit == 0) shared.sum[row] = softmax.sum;
        __syncthreads();
        write();
    }

    __device__ void write() const {
        for (uint32_t i = 0; i < OWN_ELEMENTS; ++i) {
            const uint32_t element = own_element(i);
            if (element >= call.head_dim) continue;
            const float(&sums_of_rows)[matrix::ROWS] = sums[i / matrix::COLUMNS].at[i % matrix::COLUMNS];
            for (uint32_t r = 0; r < matrix::ROWS; ++r) {
                const uint32_t at = first_row + matrix::row_of(lane, r);
                // Steps that a row does not see may have made a zero of a negative one, which adding 0 does as well.
                if (at < rows) call.out[shared.offset[at] + element] = (sums_of_rows[r] + 0.0f) / shared.sum[at];
            }
        }
    }

    // What a row has that cannot be computed.
    __device__ void write_nan() const {
        for_each_per_head(rows, call.head_dim, THREADS, [&](uint64_t at, uint32_t element) {
            call.out[shared.offset[at] + element] = __builtin_nanf("");
        });
    }
};

}  // namespace attention

#endif
