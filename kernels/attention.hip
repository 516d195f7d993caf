// Attention of rotated queries over a cache of keys and values (Vaswani et al.) with a running softmax (Milakov and
// Gimelshein): out = sum softmax(scale q . k) v. The token t of the launch sees the tokens 0 ..= len + t of the sequence.
//
// Order of all sums, which depends on a token's place in the sequence and on head_dim alone, neither on the other tokens of
// the launch nor on how it is shared out:
//   score       elements in slabs of 32: the products of a slab are added with fused multiply-adds from 0 in ascending
//               order, the slabs' sums in ascending order from 0; the scale comes last.
//   chunk       256 keys. Its weights are e^(score - max), max over the keys of the chunk that the token sees. Weight j of
//               the chunk is added to lane j % 16 in ascending order, the lanes in halves (l + 8, ..., l + 1). The products
//               of weights and values are added with fused multiply-adds from 0 in ascending order of keys.
//   sequence    chunks in ascending order, as `absorb` says; the division by the sum of weights comes last.
//
// The query heads of one key and value head, with all their tokens, are rows: row r is head r % group of token r / group.
// A block of 256 threads takes a tile of 16 rows, so that keys and values are read once for all of them: `attend` one chunk
// after another, `attend_split` one chunk alone, whose sums it leaves in `partials`. The block that is the last to do so for
// its tile puts the chunks together. No block waits for another.
#include "include/attention.h"

namespace attention {

// Loops over arrays in registers go through all of them, with `continue` where there is nothing to do: their indices are
// then known, without which the arrays would be in memory.
template <typename T>
struct Block {
    const Call<T> &call;
    Shared &shared;
    uint32_t kv_head;
    // The place of the tile among those of all heads.
    uint64_t tile;
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
    // Pieces on their way to the chip.
    Piece keys[SCORE_KEYS];
    float q[QUERY_LOADS<T>];
    Piece values[VALUE_LOADS];

    // The block of tile `at` of a head.
    __device__ Block(const Call<T> &call_, Shared &shared_, uint32_t kv_head_, uint32_t at, uint32_t tiles)
        : call(call_), shared(shared_), kv_head(kv_head_), tile((uint64_t)kv_head_ * tiles + at) {
        const uint32_t first_row = at * ROWS;
        rows = at_most(call.tokens * call.group - first_row, ROWS);
        computed = (rows + MEAN_ROWS - 1) / MEAN_ROWS * MEAN_ROWS;
        end = call.len + (first_row + rows - 1) / call.group + 1;
        if (threadIdx.x < ROWS) {
            const uint32_t row = first_row + at_most(threadIdx.x, rows - 1);
            const uint64_t head = (uint64_t)kv_head * call.group + row % call.group;
            const uint64_t token = row / call.group;
            shared.offset[threadIdx.x] = (token * call.kv_heads * call.group + head) * call.head_dim;
            shared.visible[threadIdx.x] = threadIdx.x < computed ? call.len + (uint32_t)token + 1 : 0;
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

    // Loads elements of the `count` keys from `start` on and of the queries, from element `first` on.
    __device__ void load_keys(uint32_t start, uint32_t count, uint32_t first) {
        const uint32_t from = first + threadIdx.x % KEY_PIECES * PIECE<T>;
        for (uint32_t i = 0; i < SCORE_KEYS; ++i) {
            keys[i] = {};
            if (i * KEY_STEP >= count || from >= call.cache.row_len) continue;
            const uint32_t key = at_most(threadIdx.x / KEY_PIECES + i * KEY_STEP, count - 1);
            keys[i] = load_piece(call.cache.keys + call.cache.offset(kv_head, start + key) + from);
        }
        for (uint32_t i = 0; i < QUERY_LOADS<T>; ++i) {
            const uint32_t row = (threadIdx.x + i * THREADS) / KEY_ELEMENTS<T>;
            const uint32_t element = first + (threadIdx.x + i * THREADS) % KEY_ELEMENTS<T>;
            q[i] = element < call.head_dim ? call.q[shared.offset[row] + element] : 0.0f;
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

    // Loads rows of values from `start` on, of which `left` are there.
    __device__ void load_values(uint32_t start, uint32_t left) {
        for (uint32_t i = 0; i < VALUE_LOADS; ++i) {
            if (i * THREADS >= left * value_pieces) continue;
            const uint32_t at = threadIdx.x + i * THREADS;
            const uint32_t key = at_most(at / value_pieces, left - 1);
            const uint64_t row = call.cache.offset(kv_head, start + key);
            values[i] = load_piece(call.cache.values + row + at % value_pieces * PIECE<T>);
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
            if (here < left) load_values(start + at + here, left - here);
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
            if (element + i < call.head_dim) call.out[shared.offset[row] + element + i] = sums[i] / weights;
        }
    }

    // All chunks, one after another.
    __device__ void attend() {
        Softmax softmax;
        Means means;
        GPU_UNROLL(1)
        for (uint32_t start = 0, count; start < end; start += count) {
            count = at_most(end - start, CHUNK);
            score(start, count);
            load_values(start, count);
            __syncthreads();
            const Factors factors = absorb(softmax, weigh(start, count));
            if (threadIdx.x % LANES == 0) {
                shared.factors[threadIdx.x / LANES] = factors;
                shared.sum[threadIdx.x / LANES] = softmax.sum;
            }
            const Means of_chunk = mean(start, count);
            for (uint32_t r = 0; r < MEAN_ROWS; ++r) {
                const uint32_t row = (mean_row + r) % ROWS;
                // Even adding nothing could change the sign of a zero.
                if (shared.visible[row] <= start) continue;
                for (uint32_t pair = 0; pair < PAIRS; ++pair) {
                    for (uint32_t i = 0; i < PAIR; ++i) {
                        absorb(means.of[r][pair][i], shared.factors[row], of_chunk.of[r][pair][i]);
                    }
                }
            }
        }
        for (uint32_t r = 0; r < MEAN_ROWS; ++r) {
            const uint32_t row = mean_row + r;
            if (r >= mean_rows || row >= rows) continue;
            for (uint32_t pair = 0; pair < PAIRS; ++pair) {
                write_pair(row, mean_element + pair * PAIR_STEP, means.of[r][pair], shared.sum[row]);
            }
        }
    }

    // Where a chunk's sums of a row are: the softmax, then [row_len].
    __device__ float *partial(uint32_t chunk, uint32_t row) const {
        return call.partials + ((tile * call.chunks + chunk) * ROWS + row) * ((uint64_t)call.cache.row_len + 2);
    }

    // One chunk, and the rest where this block is the tile's last.
    __device__ void attend_split(uint32_t chunk) {
        const uint32_t start = chunk * CHUNK;
        const uint32_t count = at_most(end - start, CHUNK);
        score(start, count);
        load_values(start, count);
        __syncthreads();
        const Softmax softmax = weigh(start, count);
        if (threadIdx.x % LANES == 0) {
            float *to = partial(chunk, threadIdx.x / LANES);
            to[0] = softmax.max;
            to[1] = softmax.sum;
        }
        const Means means = mean(start, count);
        for (uint32_t r = 0; r < MEAN_ROWS; ++r) {
            if (r >= mean_rows || mean_row >= computed) continue;
            float *to = partial(chunk, mean_row + r) + 2;
            for (uint32_t pair = 0; pair < PAIRS; ++pair) {
                const uint32_t element = mean_element + pair * PAIR_STEP;
                if (element >= call.cache.row_len) continue;
                for (uint32_t i = 0; i < PAIR; ++i) to[element + i] = means.of[r][pair][i];
            }
        }
        // Each thread publishes what it wrote; then the counter says that all of the block's threads did.
        publish();
        __syncthreads();
        if (threadIdx.x == 0) shared.turn = count_up(call.counters + tile);
        __syncthreads();
        if (shared.turn + 1 != call.chunks) return;
        observe();
        combine();
    }

    // Puts the chunks together.
    __device__ void combine() const {
        // For the next launch.
        if (threadIdx.x == 0) call.counters[tile] = 0;
        GPU_UNROLL(1)
        for (uint32_t row = mean_row; row < at_most(mean_row + mean_rows, rows); ++row) {
            const uint32_t chunks = (shared.visible[row] - 1) / CHUNK + 1;
            GPU_UNROLL(1)
            for (uint32_t element = mean_element; element < call.cache.row_len; element += PAIR_STEP) {
                Softmax softmax;
                float sums[PAIR] = {};
                GPU_UNROLL(4)
                for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
                    const float *from = partial(chunk, row);
                    const Factors factors = absorb(softmax, {from[0], from[1]});
                    for (uint32_t i = 0; i < PAIR; ++i) absorb(sums[i], factors, from[2 + element + i]);
                }
                write_pair(row, element, sums, softmax.sum);
            }
        }
    }
};

template <bool SPLIT, typename T>
__device__ static inline void attend(const Call<T> &call) {
    __shared__ Shared shared;
    const uint32_t tiles = (call.tokens * call.group + ROWS - 1) / ROWS;
    const uint32_t chunk = SPLIT ? blockIdx.x % call.chunks : 0;
    const uint32_t at = SPLIT ? blockIdx.x / call.chunks : blockIdx.x;
    // The last tokens see the most keys, so they come first.
    Block<T> block(call, shared, at % call.kv_heads, tiles - 1 - at / call.kv_heads, tiles);
    if constexpr (SPLIT) {
        block.attend_split(chunk);
    } else {
        block.attend();
    }
}

}  // namespace attention

#define ATTEND(NAME, SPLIT, T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(attention::THREADS)                                                   \
        NAME(const float *q, const T *keys, const T *values, float *out, float *partials, uint32_t *counters,          \
             uint64_t cache_head_stride, uint32_t cache_row_len, float scale, uint32_t tokens, uint32_t kv_heads,      \
             uint32_t group, uint32_t head_dim, uint32_t len, uint32_t chunks) {                                       \
        const KvRows<const T> cache = {keys, values, cache_head_stride, cache_row_len};                                \
        attention::attend<SPLIT, T>(                                                                                   \
            {q, cache, out, partials, counters, scale, tokens, kv_heads, group, head_dim, len, chunks});               \
    }

ATTEND(attend_f32, false, float)
ATTEND(attend_f16, false, f16_t)
ATTEND(attend_bf16, false, bf16_t)
ATTEND(attend_split_f32, true, float)
ATTEND(attend_split_f16, true, f16_t)
ATTEND(attend_split_bf16, true, bf16_t)
#undef ATTEND
