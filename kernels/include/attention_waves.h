// Attention of one token's tile of 16 query heads [128] over a span of keys, with matrix units: each wave of the block takes
// every WAVES-th step of 32 keys, brings its keys and values from memory to its registers by itself, and waits for no other
// one before the end (the running softmax is Milakov and Gimelshein's, the spans are those of Dao's flash-decoding).
//
// Keys and values are bf16, queries and weights are split into two pieces of it, as in attention_tile.h. Order of all sums,
// which depends on how many keys the token sees, on how many heads there are, and on the card's waves:
//   score       elements in slabs of 32, in ascending order. A slab adds the products with rest(q), then those with high(q).
//               The scale comes last.
//   step        32 keys. Its weights are e^(score - max), max over the keys of the wave's steps up to here. A lane adds those
//               that it has in ascending order. What was summed before is multiplied by e^(max before - max). The products of
//               values with rests of weights are added, then those with high pieces.
//   span        a wave's steps in ascending order; the lanes in halves; the waves, each multiplied by e^(its max - max of
//               all), in halves, and their sums of weights in ascending order.
//   sequence    spans, each multiplied by e^(its max - max of all), in ascending order, of 256 keys, or the least multiple of
//               that of which there are at most 64, or fewer, down to 8, where a token's heads have more than two tiles: as
//               many as make 128 blocks; the division by the sum of weights comes last.
//
// Where a sum is not finite, which is where a key or a value is not, nothing is done: `attend` says so.
#pragma once

#include "attention.h"

#if defined(GPU_MATRIX)

namespace attention {

// Where a unit of keys is in a row's weights, so that lanes which load rows next to each other meet no bank twice.
__device__ static inline uint32_t weight_place(uint32_t row, uint32_t unit) {
    return (unit ^ row / 2) % (matrix::STEP / matrix::UNIT);
}

__device__ static inline bool is_finite(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

// WORDS words at once, so many elements behind what is the same in all lanes; their address is a multiple of their size.
template <uint32_t WORDS>
__device__ static inline void load_row_words(const bf16_t *rows, uint32_t elements, uint32_t (&to)[WORDS]) {
    static_assert(WORDS == 4 || WORDS == 2, "what a lane loads at once");
    // An offset of 32 bits is an operand of a load, a sum of 64 takes registers.
    const uint32_t bytes = elements * (uint32_t)sizeof(bf16_t);
    const auto at = (const GPU_GLOBAL char *)rows + bytes;
    if constexpr (WORDS == 4) {
        const words_t words = *(const GPU_GLOBAL words_t *)at;
        __builtin_memcpy(to, &words, sizeof to);
    } else {
        const uint64_t words = *(const GPU_GLOBAL uint64_t *)at;
        __builtin_memcpy(to, &words, sizeof to);
    }
}

// `Fresh` is as in attention_block.h.
template <typename Fresh>
struct Waves {
    static constexpr uint32_t STEP = matrix::STEP;
    static constexpr uint32_t UNIT = matrix::UNIT;
    static constexpr uint32_t KEY_FRAGMENTS = STEP / matrix::SIDE;
    static constexpr uint32_t SLABS = WAVE_HEAD_DIM / STEP;
    static constexpr uint32_t SLABS_AT_ONCE = matrix::FEW_REGISTERS ? 1 : SLABS;
    // Neighbouring elements of a row of values that a lane takes at once, and how often that makes a row.
    static constexpr uint32_t OWN = matrix::OWN_COLUMNS;
    static constexpr uint32_t PARTS = WAVE_FRAGMENTS / OWN;

    const Call<bf16_t> &call;
    Shared &shared;
    const Fresh &fresh;
    // Keys that the token sees.
    uint32_t end;
    uint32_t wave;
    uint32_t lane;
    // Of the lane's columns, which are rows of the tile: the softmax of the wave's steps, the sums those of the lane's keys.
    float max[matrix::COLUMNS];
    float sum[matrix::COLUMNS] = {};
    // Those at part * OWN + j are of the elements (16 part + r) * OWN + j, r being a row of a fragment.
    matrix::Sums sums[WAVE_FRAGMENTS] = {};
    // The thread's sums of all waves, one of each fragment.
    float met[WAVE_FRAGMENTS];

    __device__ Waves(const Call<bf16_t> &call_, Shared &shared_, const Fresh &fresh_, uint32_t end_)
        : call(call_), shared(shared_), fresh(fresh_), end(end_) {
        wave = uniform(threadIdx.x / matrix::LANES);
        lane = threadIdx.x % matrix::LANES;
        for (uint32_t c = 0; c < matrix::COLUMNS; ++c) max[c] = NO_SCORE;
    }

    // Whether the cache is as the waves take it: a step's keys lie one behind the other.
    __device__ static bool serve(const Call<bf16_t> &call) {
        return call.tokens == 1 && call.head_dim == WAVE_HEAD_DIM &&
               (!call.cache.table || 1u << call.cache.block_shift >= STEP);
    }

    // Puts the tile's queries on the chip; rows beyond the last are the last one.
    __device__ void bring_queries(uint32_t rows) {
        const uint32_t row = threadIdx.x / (THREADS / ROWS);
        const uint32_t first = threadIdx.x % (THREADS / ROWS) * UNIT;
        bf16_t pieces[2][UNIT];
        for (uint32_t i = 0; i < UNIT; ++i) {
            const uint32_t element = first + i;
            const float query = Fresh::QUERIES ? fresh.query(at_most(row, rows - 1), element, WAVE_HEAD_DIM)
                                               : call.q[shared.offset[row] + element];
            bf16_t both[2];
            matrix::split(query, both);
            for (uint32_t piece = 0; piece < 2; ++piece) pieces[piece][i] = both[piece];
        }
        for (uint32_t piece = 0; piece < 2; ++piece) {
            bf16_t *to = shared.waves.queries[piece][row] + first;
            __builtin_memcpy(__builtin_assume_aligned(to, 16), pieces[piece], sizeof pieces[piece]);
        }
        if (threadIdx.x == 0) shared.waves.special = 0;
        __syncthreads();
    }

    // Elements before the row of key `start`, behind which those of its step lie.
    __device__ uint64_t offset(uint32_t start) const {
        const Blocks at = shared.sequence;
        const uint32_t block = at.table ? uniform(at.table[start >> at.shift]) : at.sequence;
        const uint32_t place = at.table ? start & ((1u << at.shift) - 1) : start;
        return block * at.stride + at.head + (uint64_t)place * WAVE_HEAD_DIM;
    }

    // Keys that are in memory, at least one.
    __device__ uint32_t in_memory() const { return fresh.in_memory(0, end); }

    // Words of a key's row of a step, from element `first` on. Steps that are not WHOLE take the last key in memory for those
    // behind it, and the new token, whose words are `fresh_piece(unit)`, from the chip.
    template <bool WHOLE, uint32_t WORDS, typename FreshPiece>
    __device__ void load_row(const bf16_t *rows, uint32_t last, uint32_t token, uint32_t key, uint32_t first,
                             FreshPiece fresh_piece, uint32_t (&to)[WORDS]) const {
        load_row_words(rows, (WHOLE ? key : at_most(key, last)) * WAVE_HEAD_DIM + first, to);
        if constexpr (WHOLE || !Fresh::QUERIES) return;
        const Piece piece = fresh_piece(first / UNIT);
        const bool upper = first % UNIT != 0;
        for (uint32_t i = 0; i < WORDS; ++i) {
            const uint32_t word = upper ? piece.words[(WORDS + i) % 4] : piece.words[i];
            to[i] = key == token ? word : to[i];
        }
    }

    template <bool WHOLE>
    __device__ void step(uint32_t start) {
        // What follows from the lane takes no registers between steps.
        lane = anew(lane);
        const uint32_t from = WHOLE ? start : at_most(start, (in_memory() - 1) / STEP * STEP);
        const uint64_t before = uniform(offset(from));
        const bf16_t *keys = call.cache.keys + before;
        const bf16_t *values = call.cache.values + before;
        // The last key in memory, and the new one, counted from the step's first.
        const uint32_t last = in_memory() - 1 - from;
        const uint32_t token = end - 1 - start;
        matrix::Sums scores[KEY_FRAGMENTS] = {};
        score<WHOLE>(keys, last, token, scores);
        const auto load_columns = [&](uint32_t first) {
            return matrix::gather_columns(lane, [&](uint32_t key, uint32_t own, auto &to) {
                load_row<WHOLE>(values, last, token, key, first + own * OWN,
                                [&](uint32_t at) { return fresh.value_piece(at); }, to);
            });
        };
        // Where there are registers for them, the values are on their way while weights are made.
        matrix::Columns columns;
        if constexpr (PARTS == 1) columns = load_columns(0);
        weigh<WHOLE>(start, scores);
        sync_wave();
        GPU_UNROLL(2)
        for (uint32_t part = 0; part < PARTS; ++part) {
            // Loaded before, they would take registers beside the keys.
            if constexpr (PARTS > 1) columns = load_columns(stay_behind(part * matrix::SIDE * OWN));
            for (uint32_t piece = 0; piece < 2; ++piece) {
                const matrix::Fragment weights = matrix::load(lane, [&](uint32_t row, uint32_t unit) {
                    return shared.waves.weights[wave][1 - piece][row] + weight_place(row, unit) * UNIT;
                });
                for (uint32_t j = 0; j < OWN; ++j) {
                    matrix::multiply_add(matrix::columns(columns, j), weights, lane, sums[part * OWN + j]);
                }
            }
        }
        // The next step's weights take the place of these.
        sync_wave();
    }

    template <bool WHOLE>
    __device__ void score(const bf16_t *keys, uint32_t last, uint32_t token, matrix::Sums (&scores)[KEY_FRAGMENTS]) const {
        GPU_UNROLL(SLABS_AT_ONCE)
        for (uint32_t slab = 0; slab < SLABS; ++slab) {
            matrix::Fragment of_keys[KEY_FRAGMENTS];
            for (uint32_t i = 0; i < KEY_FRAGMENTS; ++i) {
                of_keys[i] = matrix::gather(lane, [&](uint32_t row, uint32_t unit) {
                    matrix::Unit loaded;
                    const uint32_t key = i * matrix::SIDE + matrix::place_of_row(row);
                    load_row<WHOLE>(keys, last, token, key, slab * STEP + unit * UNIT,
                                    [&](uint32_t at) { return fresh.key_piece(at); }, loaded.words);
                    return loaded;
                });
            }
            for (uint32_t piece = 0; piece < 2; ++piece) {
                const matrix::Fragment queries = matrix::load(lane, [&](uint32_t row, uint32_t unit) {
                    return shared.waves.queries[1 - piece][row] + slab * STEP + unit * UNIT;
                });
                for (uint32_t i = 0; i < KEY_FRAGMENTS; ++i) matrix::multiply_add(of_keys[i], queries, lane, scores[i]);
            }
        }
    }

    // Calls body(c, r) for each of a lane's sums of a fragment.
    template <typename Body>
    __device__ static void for_each_sum(Body body) {
        for (uint32_t c = 0; c < matrix::COLUMNS; ++c) {
            for (uint32_t r = 0; r < matrix::ROWS; ++r) body(c, r);
        }
    }

    __device__ void multiply_sums(const float (&factor)[matrix::COLUMNS]) {
        for (uint32_t j = 0; j < WAVE_FRAGMENTS; ++j) {
            for_each_sum([&](uint32_t c, uint32_t r) { sums[j].at[c][r] *= factor[c]; });
        }
    }

    // Makes weights of a step's scores, puts them on the chip, and multiplies what was summed before.
    template <bool WHOLE>
    __device__ void weigh(uint32_t start, matrix::Sums (&scores)[KEY_FRAGMENTS]) {
        float step_max[matrix::COLUMNS];
        for (uint32_t c = 0; c < matrix::COLUMNS; ++c) step_max[c] = NO_SCORE;
        // A lane's keys in a fragment are neighbours.
        const uint32_t own = matrix::place_of_row(matrix::row_of(lane, 0));
        for (uint32_t i = 0; i < KEY_FRAGMENTS; ++i) {
            for_each_sum([&](uint32_t c, uint32_t r) {
                float &score = scores[i].at[c][r];
                score *= call.scale;
                if (!WHOLE && start + i * matrix::SIDE + own + r >= end) score = NO_SCORE;
                step_max[c] = score > step_max[c] ? score : step_max[c];
            });
        }
        matrix::fold_columns(lane, step_max, [](float a, float b) { return a > b ? a : b; });
        float base[matrix::COLUMNS];
        float factor[matrix::COLUMNS];
        for (uint32_t c = 0; c < matrix::COLUMNS; ++c) {
            const float most = step_max[c] > max[c] ? step_max[c] : max[c];
            base[c] = base_of(most);
            factor[c] = exp_nonpositive(max[c] - base[c]);
            max[c] = most;
            sum[c] *= factor[c];
        }
        for (uint32_t i = 0; i < KEY_FRAGMENTS; ++i) {
            const uint32_t key = i * matrix::SIDE + own;
            for (uint32_t c = 0; c < matrix::COLUMNS; ++c) {
                bf16_t pieces[2][matrix::ROWS];
                for (uint32_t r = 0; r < matrix::ROWS; ++r) {
                    const float weight = exp_nonpositive(scores[i].at[c][r] - base[c]);
                    sum[c] += weight;
                    bf16_t both[2];
                    matrix::split(weight, both);
                    for (uint32_t piece = 0; piece < 2; ++piece) pieces[piece][r] = both[piece];
                }
                const uint32_t row = matrix::column_of(lane, c);
                for (uint32_t piece = 0; piece < 2; ++piece) {
                    bf16_t *to = shared.waves.weights[wave][piece][row] + weight_place(row, key / UNIT) * UNIT + key % UNIT;
                    __builtin_memcpy(__builtin_assume_aligned(to, sizeof pieces[piece]), pieces[piece], sizeof pieces[piece]);
                }
            }
        }
        multiply_sums(factor);
    }

    // The span of the keys from `first` to `last`, a multiple of a step's behind the start. Whether all sums are finite: then the
    // threads have them, and the softmax is on the chip.
    __device__ bool attend(uint32_t first, uint32_t last, uint32_t rows) {
        bring_queries(rows);
        const uint32_t whole = at_most(last, in_memory());
        // All waves have as many steps: those beyond the span have no keys.
        GPU_UNROLL(1)
        for (uint32_t start = first + wave * STEP, turn = first; turn < last; start += WAVES * STEP, turn += WAVES * STEP) {
            if (start + STEP <= whole) {
                step<true>(start);
            } else {
                step<false>(start);
            }
        }
        return meet();
    }

    // Puts the waves' sums together.
    __device__ bool meet() {
        WaveShared &chip = shared.waves;
        matrix::fold_columns(lane, sum, [](float a, float b) { return a + b; });
        bool finite = true;
        for (uint32_t c = 0; c < matrix::COLUMNS; ++c) {
            finite &= is_finite(sum[c]);
            if (matrix::row_of(lane, 0) != 0) continue;
            chip.max[wave][matrix::column_of(lane, c)] = max[c];
            chip.sum[wave][matrix::column_of(lane, c)] = sum[c];
        }
        for (uint32_t j = 0; j < WAVE_FRAGMENTS; ++j) {
            for_each_sum([&](uint32_t c, uint32_t r) { finite &= is_finite(sums[j].at[c][r]); });
        }
        if (!finite) add_shared(&chip.special, 1u);
        __syncthreads();
        if (chip.special) return false;
        // A thread has a wave and a row.
        const uint32_t of_wave = threadIdx.x / ROWS % WAVES;
        const uint32_t of_row = threadIdx.x % ROWS;
        float most = NO_SCORE;
        for (uint32_t w = 0; w < WAVES; ++w) most = chip.max[w][of_row] > most ? chip.max[w][of_row] : most;
        if (threadIdx.x < WAVES * ROWS) {
            chip.factor[of_wave][of_row] = exp_nonpositive(chip.max[of_wave][of_row] - base_of(most));
        }
        __syncthreads();
        float factor[matrix::COLUMNS];
        for (uint32_t c = 0; c < matrix::COLUMNS; ++c) factor[c] = chip.factor[wave][matrix::column_of(lane, c)];
        multiply_sums(factor);
        if (threadIdx.x < ROWS) {
            float all = 0.0f;
            for (uint32_t w = 0; w < WAVES; ++w) all = __builtin_fmaf(chip.sum[w][of_row], chip.factor[w][of_row], all);
            chip.all_max[of_row] = most;
            chip.all_sum[of_row] = all;
        }
        for (uint32_t part = 0; part < WAVE_FRAGMENTS; part += MET_FRAGMENTS) {
            // What the part before left is read.
            if (part > 0) __syncthreads();
            for (uint32_t j = 0; j < MET_FRAGMENTS; ++j) {
                for_each_sum([&](uint32_t c, uint32_t r) {
                    chip.sums[wave][j][(c * matrix::ROWS + r) * matrix::LANES + lane] = sums[part + j].at[c][r];
                });
            }
            __syncthreads();
            for (uint32_t j = 0; j < MET_FRAGMENTS; ++j) {
                float of_wave[WAVES];
                for (uint32_t w = 0; w < WAVES; ++w) of_wave[w] = chip.sums[w][j][threadIdx.x];
                for (uint32_t distance = WAVES / 2; distance > 0; distance /= 2) {
                    for (uint32_t w = 0; w < distance; ++w) of_wave[w] += of_wave[w + distance];
                }
                met[part + j] = of_wave[0];
            }
        }
        return true;
    }

    // Calls body(row, first element, OWN sums) for the elements that this thread has after the waves have met.
    template <typename Body>
    __device__ void for_each_own(Body body) const {
        const uint32_t number = threadIdx.x / matrix::LANES;
        const uint32_t row = matrix::column_of(lane, number / matrix::ROWS);
        for (uint32_t part = 0; part < PARTS; ++part) {
            float own[OWN];
            for (uint32_t j = 0; j < OWN; ++j) own[j] = met[part * OWN + j];
            body(row, (part * matrix::SIDE + matrix::row_of(lane, number % matrix::ROWS)) * OWN, own);
        }
    }
};

}  // namespace attention

#endif
