// Attention of a tile of 16 query rows by a block of 256 threads: over one span of keys after another, or over one span alone,
// see attention_split.h.
//
// Order of all sums, which depends on a token's place in the sequence and on head_dim alone, neither on the other tokens of
// the launch nor on how it is shared out:
//   score       elements in slabs of 32: the products of a slab are added with fused multiply-adds from 0 in ascending
//               order, the slabs' sums in ascending order from 0; the scale comes last.
//   chunk       256 keys. Its weights are e^(score - max), max over the keys of the chunk that the token sees. Weight j of
//               the chunk is added to lane j % 16 in ascending order, the lanes in halves (l + 8, ..., l + 1). The products
//               of weights and values are added with fused multiply-adds from 0 in ascending order of keys.
//   span        1024 keys: its chunks in ascending order, as `absorb` says.
//   sequence    spans in ascending order, in the same way; the division by the sum of weights comes last.
//
// Neither the other tokens of a launch, nor how it is shared out among blocks, nor how a cache is cut into blocks is part of
// that order.
#pragma once

#include "attention.h"

namespace attention {

// Loops over arrays in registers go through all of them, with `continue` where there is nothing to do: their indices are
// then known, without which the arrays would be in memory.
// `Fresh` has what a launch that rotates holds on the chip, see decode_attention.hip, or is `NothingFresh`.
template <typename T, typename Fresh>
struct Block {
    const Call<T> &call;
    Shared &shared;
    const Fresh &fresh;
    Tile tile;
    // Tokens of the sequence before those of the launch.
    uint32_t len;
    uint32_t rows;
    // Rows that are computed; those beyond `rows` are the last one again.
    uint32_t computed;
    // Keys that the last row sees.
    uint32_t end;
    // The rows and the first element of this thread while values are added.
    uint32_t mean_row;
    uint32_t mean_rows;
    uint32_t mean_element;
    // Rows of values that have room on the chip, and pieces of each.
    uint32_t value_rows;
    uint32_t value_pieces;
    // The keys of a chunk lie in blocks of 2^block_shift.
    uint32_t block_shift;
    // Pieces on their way to the chip.
    Piece keys[SCORE_KEYS];
    float q[QUERY_LOADS<T>];
    Piece values[VALUE_LOADS];

    __device__ Block(const Call<T> &call_, Shared &shared_, const Fresh &fresh_, Tile tile_, uint32_t len_)
        : call(call_), shared(shared_), fresh(fresh_), tile(tile_), len(len_) {
        rows = at_most(call.tokens * call.group - tile.first_row, ROWS);
        computed = (rows + MEAN_ROWS - 1) / MEAN_ROWS * MEAN_ROWS;
        end = visible_of((tile.first_row + rows - 1) / call.group);
        if (threadIdx.x == 0) {
            shared.sequence = blocks_of(call, tile);
            const uint64_t rows_of_spans = (uint64_t)call.spans * ROWS;
            GPU_GLOBAL float *softmaxes = (GPU_GLOBAL float *)call.partials +
                                          tile.index * rows_of_spans * (PARTIAL_SOFTMAX + call.cache.row_len);
            shared.results = {(GPU_GLOBAL float *)call.out, softmaxes, softmaxes + rows_of_spans * PARTIAL_SOFTMAX,
                              (GPU_GLOBAL uint32_t *)call.counters + tile.index, call.spans};
        }
        if (threadIdx.x < ROWS) {
            const uint32_t row = tile.first_row + at_most(threadIdx.x, rows - 1);
            const uint64_t head = (uint64_t)tile.kv_head * call.group + row % call.group;
            const uint32_t token = row / call.group;
            const uint64_t tokens_before = (uint64_t)tile.sequence * call.tokens + token;
            shared.offset[threadIdx.x] = (tokens_before * call.kv_heads * call.group + head) * call.head_dim;
            shared.visible[threadIdx.x] = threadIdx.x < computed ? visible_of(token) : 0;
        }
        __syncthreads();
        mean_rows = call.head_dim <= PAIR_STEP / 2 ? MEAN_ROWS / 2 : MEAN_ROWS;
        const uint32_t row_threads = THREADS / ROWS * mean_rows;
        mean_row = threadIdx.x / row_threads * mean_rows;
        mean_element = threadIdx.x % row_threads * PAIR;
        value_pieces = call.cache.row_len / PIECE<T>;
        // Weights are read by fours.
        value_rows = at_most(VALUE_PIECES / value_pieces / 4 * 4, CHUNK);
    }

    // Keys that a token of the launch sees: those up to itself, and those of the prefix.
    __device__ uint32_t visible_of(uint32_t token) const {
        const uint32_t before = len + token + 1;
        return before < call.prefix ? call.prefix : before;
    }

    // Notes where the blocks of the chunk from `start` on lie. The first of them may have begun before. Those of the chunk before
    // are in use no more: its last values are loaded before a barrier.
    __device__ void locate(uint32_t start, uint32_t count) {
        const Blocks at = shared.sequence;
        const GPU_GLOBAL uint32_t *table = at.table;
        block_shift = table ? uniform(at_most(at.shift, CHUNK_SHIFT)) : CHUNK_SHIFT;
        const uint32_t key = threadIdx.x << block_shift;
        if (key < count) {
            const uint32_t token = start + key;
            const uint32_t block = table ? table[token >> at.shift] : at.sequence;
            const uint32_t place = table ? token & ((1u << at.shift) - 1) : token;
            shared.rows[threadIdx.x] = block * at.stride + at.head + (uint64_t)place * call.cache.row_len;
        }
        __syncthreads();
    }

    // Elements before the row of a key of the chunk.
    __device__ uint64_t offset(uint32_t key) const {
        return shared.rows[key >> block_shift] + (key & ((1u << block_shift) - 1)) * call.cache.row_len;
    }

    // Loads elements of the `count` keys from `start` on and of the queries, from element `first` on.
    __device__ void load_keys(uint32_t start, uint32_t count, uint32_t first) {
        const uint32_t from = first + threadIdx.x % KEY_PIECES * PIECE<T>;
        const uint32_t in_memory = fresh.in_memory(start, count);
        for (uint32_t i = 0; i < SCORE_KEYS; ++i) {
            keys[i] = {};
            if (i * KEY_STEP >= in_memory || from >= call.cache.row_len) continue;
            const uint32_t key = at_most(threadIdx.x / KEY_PIECES + i * KEY_STEP, in_memory - 1);
            keys[i] = load_piece(call.cache.keys + offset(key) + from);
        }
        if (in_memory < count && from < call.cache.row_len) {
            for (uint32_t i = 0; i < SCORE_KEYS; ++i) {
                if (threadIdx.x / KEY_PIECES + i * KEY_STEP == in_memory) keys[i] = fresh.key_piece(from / PIECE<T>);
            }
        }
        for (uint32_t i = 0; i < QUERY_LOADS<T>; ++i) {
            const uint32_t row = (threadIdx.x + i * THREADS) / KEY_ELEMENTS<T>;
            const uint32_t element = first + (threadIdx.x + i * THREADS) % KEY_ELEMENTS<T>;
            q[i] = 0.0f;
            if (element >= call.head_dim) continue;
            q[i] = Fresh::QUERIES ? fresh.query(at_most(row, rows - 1), element, call.head_dim)
                                  : call.q[shared.offset[row] + element];
        }
    }

    __device__ void store_keys(uint32_t count) const {
        for (uint32_t i = 0; i < SCORE_KEYS; ++i) {
            if (i * KEY_STEP >= count) continue;
            const uint32_t key = threadIdx.x / KEY_PIECES + i * KEY_STEP;
            shared.dots.keys[key * KEY_PITCH + threadIdx.x % KEY_PIECES] = keys[i];
        }
        for (uint32_t i = 0; i < QUERY_LOADS<T>; ++i) shared.dots.q[threadIdx.x + i * THREADS] = q[i];
    }

    // Adds the products of the elements on the chip to sums[row][key].
    __device__ void add_products(uint32_t row, uint32_t key, uint32_t count,
                                 float (&sums)[SCORE_ROWS][SCORE_KEYS]) const {
        constexpr uint32_t STEP = 8;
        GPU_UNROLL(1)
        for (uint32_t first = 0; first < KEY_ELEMENTS<T>; first += STEP) {
            float query[SCORE_ROWS][STEP];
            for (uint32_t r = 0; r < SCORE_ROWS; ++r) {
                for (uint32_t i = 0; i < STEP; ++i) query[r][i] = shared.dots.q[(row + r) * KEY_ELEMENTS<T> + first + i];
            }
            for (uint32_t k = 0; k < SCORE_KEYS; ++k) {
                if (k * KEY_STEP >= count) continue;
                float elements[STEP];
                widen_from<T>(shared.dots.keys + (key + k * KEY_STEP) * KEY_PITCH, first, elements);
                for (uint32_t r = 0; r < SCORE_ROWS; ++r) {
                    for (uint32_t i = 0; i < STEP; ++i) {
                        sums[r][k] = __builtin_fmaf(query[r][i], elements[i], sums[r][k]);
                    }
                }
            }
        }
    }

    // The scores of all rows for the `count` keys from `start` on.
    __device__ void score(uint32_t start, uint32_t count) {
        const uint32_t row = threadIdx.x / KEY_STEP * SCORE_ROWS;
        const uint32_t key = threadIdx.x % KEY_STEP;
        float dots[SCORE_ROWS][SCORE_KEYS] = {};
        float slab[SCORE_ROWS][SCORE_KEYS] = {};
        load_keys(start, count, 0);
        GPU_UNROLL(1)
        for (uint32_t first = 0; first < call.head_dim; first += KEY_ELEMENTS<T>) {
            __syncthreads();
            store_keys(count);
            __syncthreads();
            const uint32_t next = first + KEY_ELEMENTS<T>;
            if (next < call.head_dim) load_keys(start, count, next);
            if (row >= computed) continue;
            add_products(row, key, count, slab);
            if (next % SLAB != 0 && next < call.head_dim) continue;
            for (uint32_t r = 0; r < SCORE_ROWS; ++r) {
                for (uint32_t k = 0; k < SCORE_KEYS; ++k) {
                    dots[r][k] += slab[r][k];
                    slab[r][k] = 0.0f;
                }
            }
        }
        // Scores take the place of the keys.
        __syncthreads();
        if (row >= computed) return;
        for (uint32_t k = 0; k < SCORE_KEYS; ++k) {
            if (k * KEY_STEP >= count) continue;
            for (uint32_t r = 0; r < SCORE_ROWS; ++r) {
                shared.means.scores[(row + r) * SCORE_PITCH + key + k * KEY_STEP] = dots[r][k] * call.scale;
            }
        }
    }

    // Makes weights of the scores of this thread's row, and gives the row's softmax over the chunk.
    __device__ Softmax weigh(uint32_t start, uint32_t count) const {
        const uint32_t row = threadIdx.x / LANES;
        const uint32_t seen_keys = seen(shared.visible[row], start, count);
        float *scores = shared.means.scores + row * SCORE_PITCH;
        Softmax softmax;
        const auto keep_larger = [&](float score) { softmax.max = score > softmax.max ? score : softmax.max; };
        GPU_UNROLL(1)
        for (uint32_t key = threadIdx.x % LANES; key < seen_keys; key += LANES) keep_larger(scores[key]);
        keep_larger(lane_xor<8>(softmax.max));
        keep_larger(lane_xor<4>(softmax.max));
        keep_larger(lane_xor<2>(softmax.max));
        keep_larger(lane_xor<1>(softmax.max));
        const float base = base_of(softmax.max);
        GPU_UNROLL(1)
        for (uint32_t key = threadIdx.x % LANES; key < seen_keys; key += LANES) {
            const float weight = exp_nonpositive(scores[key] - base);
            scores[key] = weight;
            softmax.sum += weight;
        }
        softmax.sum += lane_xor<8>(softmax.sum);
        softmax.sum += lane_xor<4>(softmax.sum);
        softmax.sum += lane_xor<2>(softmax.sum);
        softmax.sum += lane_xor<1>(softmax.sum);
        return softmax;
    }

    // Loads rows of values of the chunk from `start` on, from its key `at` on, of which `left` are there.
    __device__ void load_values(uint32_t start, uint32_t at, uint32_t left) {
        const uint32_t in_memory = fresh.in_memory(start + at, left);
        for (uint32_t i = 0; i < VALUE_LOADS; ++i) {
            if (in_memory < left) values[i] = {};
            if (i * THREADS >= in_memory * value_pieces) continue;
            const uint32_t piece = threadIdx.x + i * THREADS;
            const uint32_t key = at + at_most(piece / value_pieces, in_memory - 1);
            values[i] = load_piece(call.cache.values + offset(key) + piece % value_pieces * PIECE<T>);
        }
        if (in_memory < left) {
            for (uint32_t i = 0; i < VALUE_LOADS; ++i) {
                const uint32_t piece = threadIdx.x + i * THREADS;
                if (piece / value_pieces == in_memory) values[i] = fresh.value_piece(piece % value_pieces);
            }
        }
    }

    __device__ void store_values(uint32_t left) const {
        for (uint32_t i = 0; i < VALUE_LOADS; ++i) {
            if (i * THREADS >= left * value_pieces) continue;
            shared.means.values[threadIdx.x + i * THREADS] = values[i];
        }
    }

    // Adds weights times values of R rows for the `count` keys from `start` on, which are the chunk's from `at` on.
    template <uint32_t R>
    __device__ void add_values(uint32_t start, uint32_t at, uint32_t count, Means &means) const {
        const uint32_t pitch = call.cache.row_len;
        const float *weights = shared.means.scores + mean_row * SCORE_PITCH + at;
        const uint32_t seen_by_all = seen(shared.visible[mean_row], start, count);
        const uint32_t seen_by_last = seen(shared.visible[mean_row + R - 1], start, count);
        for (uint32_t pair = 0; pair < PAIRS; ++pair) {
            const uint32_t element = mean_element + pair * PAIR_STEP;
            if (element >= pitch) continue;
            uint32_t key = 0;
            GPU_UNROLL(1)
            for (; key + 4 <= seen_by_all; key += 4) {
                float pairs[4][PAIR];
                for (uint32_t k = 0; k < 4; ++k) {
                    widen_from<T>(shared.means.values, (key + k) * pitch + element, pairs[k]);
                }
                for (uint32_t r = 0; r < R; ++r) {
                    float four[4];
                    __builtin_memcpy(four, __builtin_assume_aligned(weights + r * SCORE_PITCH + key, 16), sizeof four);
                    for (uint32_t k = 0; k < 4; ++k) {
                        for (uint32_t i = 0; i < PAIR; ++i) {
                            means.of[r][pair][i] = __builtin_fmaf(four[k], pairs[k][i], means.of[r][pair][i]);
                        }
                    }
                }
            }
            GPU_UNROLL(1)
            for (; key < seen_by_last; ++key) {
                float value[PAIR];
                widen_from<T>(shared.means.values, key * pitch + element, value);
                for (uint32_t r = 0; r < R; ++r) {
                    if (key >= seen(shared.visible[mean_row + r], start, count)) continue;
                    const float weight = weights[r * SCORE_PITCH + key];
                    for (uint32_t i = 0; i < PAIR; ++i) {
                        means.of[r][pair][i] = __builtin_fmaf(weight, value[i], means.of[r][pair][i]);
                    }
                }
            }
        }
    }

    // The sums of weights times values over the `count` keys from `start` on, the first of which are loaded.
    __device__ Means mean(uint32_t start, uint32_t count) {
        Means means;
        GPU_UNROLL(1)
        for (uint32_t at = 0; at < count; at += value_rows) {
            const uint32_t left = count - at;
            __syncthreads();
            store_values(left);
            __syncthreads();
            const uint32_t here = at_most(left, value_rows);
            if (here < left) load_values(start, at + here, left - here);
            if (mean_row >= computed) continue;
            if (mean_rows == MEAN_ROWS) {
                add_values<MEAN_ROWS>(start + at, at, here, means);
            } else {
                add_values<MEAN_ROWS / 2>(start + at, at, here, means);
            }
        }
        return means;
    }

    // Divides a pair of a row's sums by the sum of its weights. Only the elements of the head are there.
    __device__ void write_pair(uint32_t row, uint32_t element, const float (&sums)[PAIR], float weights) const {
        for (uint32_t i = 0; i < PAIR; ++i) {
            if (element + i < call.head_dim) {
                shared.results.out[shared.offset[row] + element + i] = sums[i] / weights;
            }
        }
    }

    // The chunks of the keys from `first` to `last`, one after another.
    __device__ void attend_span(uint32_t first, uint32_t last, Softmax &softmax, Means &means) {
        GPU_UNROLL(1)
        for (uint32_t start = first, count; start < last; start += count) {
            count = at_most(last - start, CHUNK);
            locate(start, count);
            score(start, count);
            load_values(start, 0, count);
            __syncthreads();
            share(absorb(softmax, weigh(start, count)), softmax);
            add(means, mean(start, count), start);
        }
    }

    // Tells the block of the softmax of this thread's row.
    __device__ void share(const Factors &factors, const Softmax &softmax) const {
        if (threadIdx.x % LANES != 0) return;
        shared.factors[threadIdx.x / LANES] = factors;
        shared.sum[threadIdx.x / LANES] = softmax.sum;
    }

    // Adds sums over keys from `start` on by the factors that are shared.
    __device__ void add(Means &means, const Means &more, uint32_t start) const {
        for (uint32_t r = 0; r < MEAN_ROWS; ++r) {
            const uint32_t row = (mean_row + r) % ROWS;
            // Even adding nothing could change the sign of a zero.
            if (shared.visible[row] <= start) continue;
            for (uint32_t pair = 0; pair < PAIRS; ++pair) {
                for (uint32_t i = 0; i < PAIR; ++i) {
                    absorb(means.of[r][pair][i], shared.factors[row], more.of[r][pair][i]);
                }
            }
        }
    }

    // All spans, one after another.
    __device__ void attend() {
        Softmax softmax;
        Means means;
        attend_span(0, at_most(end, SPAN), softmax, means);
        GPU_UNROLL(1)
        for (uint32_t first = SPAN; first < end; first += SPAN) {
            Softmax of_span;
            Means span_means;
            attend_span(first, first + at_most(end - first, SPAN), of_span, span_means);
            // Those of the chunk may still be in use.
            __syncthreads();
            share(absorb(softmax, of_span), softmax);
            __syncthreads();
            add(means, span_means, first);
        }
        write(means);
    }

    __device__ void write(const Means &means) const {
        for (uint32_t r = 0; r < MEAN_ROWS; ++r) {
            const uint32_t row = mean_row + r;
            if (r >= mean_rows || row >= rows) continue;
            for (uint32_t pair = 0; pair < PAIRS; ++pair) {
                write_pair(row, mean_element + pair * PAIR_STEP, means.of[r][pair], shared.sum[row]);
            }
        }
    }

    // What a row has that cannot be computed.
    __device__ void write_nan() const {
        for_each_per_head(rows, call.head_dim, THREADS,
                          [&](uint64_t row, uint32_t i) { shared.results.out[shared.offset[row] + i] = __builtin_nanf(""); });
    }
};

}  // namespace attention
