// The attention of one new token of each of several sequences, in one launch: norms the heads of its queries and keys where
// there are weights for that, rotates them, appends the key and the value to the cache, and attends over the sequence and
// the token itself. Bits are those of the parts: include/rms_norm.h, include/rotate.h, and include/attention_block.h or
// include/attention_waves.h, whichever serves the cache. Queries, keys and values are left as they are.
//
// A block takes a tile of 16 query heads of a key and value head and a span of keys, as `attend_split` does, and rotates its
// queries on the chip. The blocks of the last span do the same with the new key, and take it and its value from there;
// that of the first tile stores them. No block reads what another one stores before it is told of it.
//
// How many tokens a sequence has is read from `lengths`, so that the same launch serves any length: a block for each span that
// the cache has room for. A token that there is no room for, or a position beyond the table, gives NaN and appends nothing.
#include "include/attention_split.h"
#include "include/rms_norm.h"
#include "include/rotate.h"

namespace attention {

constexpr uint32_t MOST_ELEMENTS = 256;
constexpr uint32_t NO_TOKEN = ~0u;
constexpr uint32_t WARP = 32;

// Where the new tokens' heads come from: [sequences, heads, head_dim], sequences as far apart as the strides say.
struct NewToken {
    const float *q;
    const float *k;
    const float *v;
    uint32_t q_stride;
    uint32_t kv_stride;
    // Weights [head_dim] of the heads' norms, or null.
    const float *q_norm;
    const float *k_norm;
    float eps;
    // The rows of the rotation's table, and how many of a token's positions there are.
    uint32_t table_length;
    uint32_t axes;
};

// On the chip: the queries of the tile and behind them the new key [head_dim], f32; and what pairs are rotated by, then key and
// value as the cache has them.
template <typename T>
struct NewRows {
    float rows[(ROWS + 1) * MOST_ELEMENTS];
    union {
        struct {
            float cos[MOST_ELEMENTS / 2];
            float sin[MOST_ELEMENTS / 2];
        };
        struct {
            Piece key[MOST_ELEMENTS / PIECE<T>];
            Piece value[MOST_ELEMENTS / PIECE<T>];
        };
    };
};

// What the block takes from there instead of from memory.
template <typename T>
struct Fresh {
    static constexpr bool QUERIES = true;
    const NewRows<T> &on_chip;
    // The new token, or NO_TOKEN where the span ends before it.
    uint32_t token;

    // Of `count` keys from `start` on, how many are not the new token, which is the last one.
    __device__ uint32_t in_memory(uint32_t start, uint32_t count) const {
        return start + count - 1 == token ? count - 1 : count;
    }
    __device__ float query(uint32_t row, uint32_t element, uint32_t head_dim) const {
        return on_chip.rows[row * head_dim + element];
    }
    __device__ Piece key_piece(uint32_t piece) const { return on_chip.key[piece]; }
    __device__ Piece value_piece(uint32_t piece) const { return on_chip.value[piece]; }
};

// Norms `count` rows [head_dim], the last of which is the key if there is one.
__device__ static inline void norm_rows(float *rows, uint32_t count, uint32_t queries, uint32_t head_dim,
                                        const NewToken &token) {
    constexpr uint32_t PARTS = MOST_ELEMENTS / WARP;
    const uint32_t lane = threadIdx.x % WARP;
    const double inverse_width = 1.0 / (double)head_dim;
    GPU_UNROLL(1)
    for (uint32_t first = 0; first < count; first += THREADS / WARP) {
        const uint32_t row = first + threadIdx.x / WARP;
        // The lanes' sums, and theirs in halves.
        double squares[PARTS];
        for (uint32_t part = 0; part < PARTS; ++part) {
            const uint32_t i = part * WARP + lane;
            const double value = row < count && i < head_dim ? (double)rows[row * head_dim + i] : 0.0;
            squares[part] = value * value;
        }
        double sum = ((squares[0] + squares[4]) + (squares[2] + squares[6])) +
                     ((squares[1] + squares[5]) + (squares[3] + squares[7]));
        sum += lane_xor<16>(sum);
        sum += lane_xor<8>(sum);
        sum += lane_xor<4>(sum);
        sum += lane_xor<2>(sum);
        sum += lane_xor<1>(sum);
        if (row >= count) continue;
        const float scale = norm_scale(sum, inverse_width, token.eps);
        const float *weight = row < queries ? token.q_norm : token.k_norm;
        for (uint32_t i = lane; i < head_dim; i += WARP) {
            rows[row * head_dim + i] = rows[row * head_dim + i] * scale * weight[i];
        }
    }
}

// What a thread brings of the new token: queries, an element of the key and of the value, and what one pair is rotated by.
// They are asked for before anything is known of the sequence, so that nothing waits for one of them after the other.
struct Brought {
    static constexpr uint32_t QUERIES = ROWS * MOST_ELEMENTS / THREADS;
    float q[QUERIES];
    float key = 0.0f;
    float value = 0.0f;
    uint32_t position = 0;
    float cos = 1.0f;
    float sin = 0.0f;

    template <typename T>
    __device__ Brought(const Call<T> &call, const NewToken &token, Rotation rotation, Tile tile) {
        const uint32_t head_dim = call.head_dim;
        const uint32_t elements = at_most(call.group - tile.first_row, ROWS) * head_dim;
        const float *from = token.q + (uint64_t)tile.sequence * token.q_stride +
                            ((uint64_t)tile.kv_head * call.group + tile.first_row) * head_dim;
        for (uint32_t i = 0; i < QUERIES; ++i) {
            // Threads beyond the last element load that, so that none of them jumps alone.
            if (i * THREADS < elements) q[i] = from[at_most(i * THREADS + threadIdx.x, elements - 1)];
        }
        const uint64_t kv = (uint64_t)tile.sequence * token.kv_stride + (uint64_t)tile.kv_head * head_dim;
        if (threadIdx.x < head_dim) {
            key = token.k[kv + threadIdx.x];
            value = token.v[kv + threadIdx.x];
        }
        if (threadIdx.x >= rotation.pairs) return;
        // Of one axis it is the first, whose number is not waited for.
        const uint32_t axis = token.axes == 1 ? 0 : rotation.pair_axis[threadIdx.x];
        position = rotation.positions[(uint64_t)axis * rotation.tokens + tile.sequence];
    }

    // What the thread's pair is rotated by, if it is in the table.
    __device__ void ask_for_rotation(Rotation rotation) {
        if (threadIdx.x >= rotation.pairs) return;
        const uint64_t at = (uint64_t)position * rotation.pairs + threadIdx.x;
        cos = rotation.cos[at];
        sin = rotation.sin[at];
    }
};

// Puts the tile's queries on the chip, and with `has_key` the new key and value, which `stores` also appends.
template <typename T>
__device__ static inline void place(const Call<T> &call, KvRows<T> cache, const NewToken &token, Rotation rotation,
                                    Tile tile, const Brought &brought, uint32_t len, bool has_key, bool stores,
                                    NewRows<T> &to) {
    const uint32_t queries = at_most(call.group - tile.first_row, ROWS);
    const uint32_t count = queries + (has_key ? 1 : 0);
    const uint32_t head_dim = call.head_dim;
    for (uint32_t i = 0; i < Brought::QUERIES; ++i) {
        const uint32_t at = i * THREADS + threadIdx.x;
        if (at < queries * head_dim) to.rows[at] = brought.q[i];
    }
    if (threadIdx.x < head_dim) to.rows[queries * head_dim + threadIdx.x] = brought.key;
    if (threadIdx.x < rotation.pairs) {
        to.cos[threadIdx.x] = brought.cos;
        to.sin[threadIdx.x] = brought.sin;
    }
    __syncthreads();
    if (token.q_norm) {
        norm_rows(to.rows, count, queries, head_dim, token);
        __syncthreads();
    }
    for_each_per_head(count, rotation.pairs, THREADS, [&](uint64_t row, uint32_t pair) {
        float *a = to.rows + row * head_dim + first_of_pair(rotation, pair);
        rotate(to.cos[pair], to.sin[pair], a[0], a[rotation.pair_span]);
    });
    __syncthreads();
    const uint32_t i = threadIdx.x;
    if (!has_key || i >= cache.row_len) return;
    // Rows of a cache end in zeros.
    const T key = narrow<T>(i < head_dim ? to.rows[queries * head_dim + i] : 0.0f);
    const T value = narrow<T>(brought.value);
    ((T *)to.key)[i] = key;
    ((T *)to.value)[i] = value;
    if (!stores || i >= head_dim) return;
    const uint64_t at = cache.offset(tile.sequence, tile.kv_head, len) + i;
    cache.keys[at] = key;
    cache.values[at] = value;
}

template <typename T>
__device__ static inline void decode(const Call<T> &call, KvRows<T> cache, const NewToken &token, Rotation rotation,
                                     const uint32_t *lengths) {
    __shared__ Shared shared;
    __shared__ NewRows<T> rows;
    const uint32_t tiles = (call.group + ROWS - 1) / ROWS;
    const uint32_t span = blockIdx.x % call.spans;
    const Tile tile = tile_of(blockIdx.x / call.spans, call.kv_heads, tiles);
    Brought brought(call, token, rotation, tile);
    const uint32_t len = lengths[tile.sequence];
    const uint32_t last = len / Split<T, Fresh<T>>::span_of(call, len + 1);
    bool served = cache.has(tile.sequence, len);
    for (uint32_t axis = 0; axis < token.axes; ++axis) {
        if (rotation.positions[axis * rotation.tokens + tile.sequence] >= token.table_length) served = false;
    }
    if (served && span > last) return;
    if (served) {
        brought.ask_for_rotation(rotation);
        const bool has_key = span == last;
        place(call, cache, token, rotation, tile, brought, len, has_key, has_key && tile.first_row == 0, rows);
    }
    const Fresh<T> fresh = {rows, span == last ? len : NO_TOKEN};
    Split<T, Fresh<T>> block(call, shared, fresh, tile, len);
    if (served) {
        block.attend_split(span);
    } else if (span == 0) {
        block.write_nan();
    }
}

}  // namespace attention

// Rows are as wide as the next multiple of 8 elements, and nothing lies between them; a stride of 0 says that nothing lies
// between the queries, the keys or the values of sequences either.
#define DECODE(NAME, T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(attention::THREADS)                                                   \
        NAME(const float *q, const float *k, const float *v, T *keys, T *values, float *out, float *partials,          \
             uint32_t *counters, const uint32_t *block_table, const uint32_t *lengths, const uint32_t *positions,      \
             const float *cos, const float *sin, const uint32_t *pair_axis, const float *q_norm, const float *k_norm,  \
             uint32_t block_shift, uint32_t capacity, uint32_t stride, float scale, float eps, uint32_t sequences,     \
             uint32_t kv_heads, uint32_t group, uint32_t head_dim, uint32_t rotary_dim, uint32_t pair_span,            \
             uint32_t axes, uint32_t table_length, uint32_t spans) {                                                   \
        const uint32_t row_len = (head_dim + 7) / 8 * 8;                                                               \
        const uint64_t head_stride = (uint64_t)(block_table ? 1u << block_shift : capacity) * row_len;                 \
        const uint32_t table_len = capacity >> block_shift;                                                            \
        const KvRows<T> cache = {keys,        values,  block_table, kv_heads * head_stride,                            \
                                 head_stride, row_len, block_shift, table_len, capacity};                              \
        const KvRows<const T> read = {keys,        values,  block_table, kv_heads * head_stride,                       \
                                      head_stride, row_len, block_shift, table_len, capacity};                         \
        const uint32_t q_stride = stride ? stride : kv_heads * group * head_dim;                                       \
        const uint32_t kv_stride = stride ? stride : kv_heads * head_dim;                                              \
        attention::decode<T>({q, read, per_thread(out), per_thread(partials), per_thread(counters), scale, 0, 1,       \
                              kv_heads, group, head_dim, 0, spans},                                                    \
                             cache,                                                                                    \
                             {per_thread(q), per_thread(k), per_thread(v), q_stride, kv_stride, q_norm,                \
                              per_thread(k_norm), eps, table_length, axes},                                            \
                             {per_thread(cos), per_thread(sin), positions, per_thread(pair_axis), sequences,           \
                              rotary_dim / 2, pair_span},                                                              \
                             lengths);                                                                                 \
    }

DECODE(decode_attention_f32, float)
DECODE(decode_attention_f16, f16_t)
DECODE(decode_attention_bf16, bf16_t)
#undef DECODE
