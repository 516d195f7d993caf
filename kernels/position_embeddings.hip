// Rotates queries and keys in place in one launch, each with its own head count; the formula is in include/rotate.h. With
// a cache, it also appends the rotated keys and the values to it, each rounded once to the cache's type; Appended in
// include/kv_rows.h says where. Blocks take tokens along x, and what there is to do for one along y in turn: quads of elements
// where everything is aligned to them, else elements.
#include "include/kv_rows.h"
#include "include/quads.h"
#include "include/rotate.h"

// What a launch works on.
template <typename T, typename C>
struct Operands {
    Rotation rotation;
    Heads<T> q;
    Heads<T> k;
    // [tokens, kv_heads, head_dim]
    const T *v;
    KvRows<C> cache;
    uint32_t q_heads;
    uint32_t kv_heads;
    uint32_t head_dim;

    __device__ bool is_interleaved() const { return rotation.pair_span == 1; }

    // Whether four pairs that follow each other are two quads, and all else comes in quads too.
    __device__ bool has_all_quads() const {
        const uint64_t elements = q.token_stride | q.head_stride | k.token_stride | k.head_stride | rotation.pairs |
                                  (is_interleaved() ? 0 : rotation.pair_span);
        const uint64_t appended = head_dim | cache.block_stride | cache.head_stride | cache.row_len;
        const uint64_t of_token = ((uint64_t)q_heads + 2 * (uint64_t)kv_heads) * head_dim;
        // Quads of a token are counted in 32 bits.
        const bool rotates = elements % QUAD == 0 && of_token >> 31 == 0 && has_quads(q.data) && has_quads(k.data);
        return rotates && (!cache.keys || (appended % QUAD == 0 && has_quads(v) && has_quads(cache.keys) &&
                                           has_quads(cache.values)));
    }
};

// Of a token: where its keys and values go.
struct Place {
    uint64_t token;
    bool appends;
    // Elements before its row of the first head.
    uint64_t first_row;
};

// Four pairs from `pair` on, of a head of the queries or, behind those, of the keys.
template <typename T, typename C>
__device__ static inline void rotate_quads(const Operands<T, C> &o, Place at, uint32_t head, uint32_t pair) {
    const bool is_key = head >= o.q_heads;
    if (is_key) head -= o.q_heads;
    const Heads<T> x = is_key ? o.k : o.q;
    const uint64_t low_at = first_of_pair(o.rotation, pair);
    const uint64_t high_at = low_at + (o.is_interleaved() ? QUAD : o.rotation.pair_span);
    T *const row = x.data + at.token * x.token_stride + head * x.head_stride;
    float low[QUAD], high[QUAD], cos[QUAD], sin[QUAD];
    load_quad(row + low_at, low);
    load_quad(row + high_at, high);
    for (uint32_t i = 0; i < QUAD; ++i) {
        const uint64_t turned = row_of_pair(o.rotation, at.token, pair + i) * o.rotation.pairs + pair + i;
        cos[i] = o.rotation.cos[turned];
        sin[i] = o.rotation.sin[turned];
    }
    if (o.is_interleaved()) {
        for (uint32_t i = 0; i < QUAD; ++i) {
            float *const elements = i < QUAD / 2 ? low : high;
            rotate(cos[i], sin[i], elements[2 * i % QUAD], elements[2 * i % QUAD + 1]);
        }
    } else {
        for (uint32_t i = 0; i < QUAD; ++i) rotate(cos[i], sin[i], low[i], high[i]);
    }
    store_quad(low, row + low_at);
    store_quad(high, row + high_at);
    if (!is_key || !at.appends) return;
    C *const key = o.cache.keys + at.first_row + head * o.cache.head_stride;
    for (uint32_t i = 0; i < QUAD; ++i) {
        low[i] = widen(narrow<T>(low[i]));
        high[i] = widen(narrow<T>(high[i]));
    }
    store_quad(low, key + low_at);
    store_quad(high, key + high_at);
}

template <typename T, typename C>
__device__ static inline void copy_quad(const T *from, C *to) {
    float values[QUAD];
    load_quad(from, values);
    store_quad(values, to);
}

template <typename T, typename C>
__device__ static inline void embed_positions_by_quads(const Operands<T, C> &o, Place at) {
    // Of a head: what is rotated, keys that are appended as they are, and values.
    const uint32_t turned = o.rotation.pairs / QUAD;
    const uint32_t values = o.head_dim / QUAD;
    const uint32_t as_they_are = values - 2 * turned;
    const uint32_t first_kept = (o.q_heads + o.kv_heads) * turned;
    const uint32_t first_value = first_kept + o.kv_heads * as_they_are;
    const uint32_t end = at.appends ? first_value + o.kv_heads * values : first_kept;
    for (uint32_t i = blockIdx.y * blockDim.x + threadIdx.x; i < end; i += gridDim.y * blockDim.x) {
        if (i < first_kept) {
            rotate_quads(o, at, i / turned, i % turned * QUAD);
        } else if (i < first_value) {
            const uint32_t head = (i - first_kept) / as_they_are;
            const uint32_t element = (2 * turned + (i - first_kept) % as_they_are) * QUAD;
            copy_quad(o.k.data + at.token * o.k.token_stride + head * o.k.head_stride + element,
                      o.cache.keys + at.first_row + head * o.cache.head_stride + element);
        } else {
            const uint32_t head = (i - first_value) / values;
            const uint32_t element = (i - first_value) % values * QUAD;
            copy_quad(o.v + (at.token * o.kv_heads + head) * o.head_dim + element,
                      o.cache.values + at.first_row + head * o.cache.head_stride + element);
        }
    }
}

template <typename T, typename C>
__device__ static inline void embed_positions_by_elements(const Operands<T, C> &o, Place at) {
    const Rotation &rotation = o.rotation;
    const T *k_token = o.k.data + at.token * o.k.token_stride;
    // Element i of a head of the rotated keys.
    const auto append_key = [&](uint64_t head, uint64_t i) {
        o.cache.keys[at.first_row + head * o.cache.head_stride + i] = narrow<C>(widen(k_token[head * o.k.head_stride + i]));
    };
    for_each_per_head((uint64_t)o.q_heads + o.kv_heads, rotation.pairs, [&](uint64_t head, uint32_t pair) {
        if (head < o.q_heads) {
            rotate_pair(rotation, o.q, at.token, head, pair);
            return;
        }
        head -= o.q_heads;
        rotate_pair(rotation, o.k, at.token, head, pair);
        if (at.appends) {
            const uint64_t first = first_of_pair(rotation, pair);
            append_key(head, first);
            append_key(head, first + rotation.pair_span);
        }
    });
    if (!at.appends) return;
    const uint32_t rotary_dim = 2 * rotation.pairs;
    if (rotary_dim < o.head_dim) {
        for_each_per_head(o.kv_heads, o.head_dim - rotary_dim,
                          [&](uint64_t head, uint32_t i) { append_key(head, rotary_dim + i); });
    }
    for_each_per_head(o.kv_heads, o.head_dim, [&](uint64_t head, uint32_t i) {
        const T value = o.v[(at.token * o.kv_heads + head) * o.head_dim + i];
        o.cache.values[at.first_row + head * o.cache.head_stride + i] = narrow<C>(widen(value));
    });
}

template <typename T, typename C>
__device__ static inline void position_embeddings(const Operands<T, C> &o, Appended to) {
    const uint64_t token = blockIdx.x;
    if (token >= o.rotation.tokens) return;
    const uint32_t sequence = to.sequence_of((uint32_t)token);
    const uint32_t row = o.cache.keys ? to.row_of((uint32_t)token) : 0;
    const bool appends = o.cache.keys && o.cache.has(sequence, row);
    const Place at = {token, appends, appends ? o.cache.offset(sequence, 0, row) : 0};
    if (o.has_all_quads()) {
        embed_positions_by_quads(o, at);
    } else if (blockIdx.y == 0) {
        embed_positions_by_elements(o, at);
    }
}

// T is the type of the activations, C that of the cache, if there is one.
#define POSITION_EMBEDDINGS(NAME, T, C)                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        NAME(T *q, T *k, const T *v, C *keys, C *values, const uint32_t *block_table, const uint32_t *lengths,         \
             const float *cos, const float *sin, const uint32_t *positions, const uint32_t *pair_axis,                 \
             uint64_t q_token_stride, uint64_t q_head_stride, uint64_t k_token_stride, uint64_t k_head_stride,         \
             uint64_t cache_block_stride, uint64_t cache_head_stride, uint32_t cache_row_len, uint32_t block_shift,    \
             uint32_t table_len, uint32_t capacity, uint32_t sequence, uint32_t first_row, uint32_t tokens,            \
             uint32_t q_heads, uint32_t kv_heads, uint32_t head_dim, uint32_t rotary_dim, uint32_t pair_span) {        \
        const Rotation rotation = {cos, sin, positions, pair_axis, tokens, rotary_dim / 2, pair_span};                 \
        const Heads<T> q_rows = {q, q_token_stride, q_head_stride};                                                    \
        const Heads<T> k_rows = {k, k_token_stride, k_head_stride};                                                    \
        const KvRows<C> cache = {keys,          values,      block_table, cache_block_stride, cache_head_stride,       \
                                 cache_row_len, block_shift, table_len,   capacity};                                   \
        position_embeddings<T, C>({rotation, q_rows, k_rows, v, cache, q_heads, kv_heads, head_dim},                   \
                                  {lengths, sequence, first_row});                                                     \
    }

POSITION_EMBEDDINGS(position_embeddings_f32, float, float)
POSITION_EMBEDDINGS(position_embeddings_f16, f16_t, f16_t)
POSITION_EMBEDDINGS(position_embeddings_bf16, bf16_t, bf16_t)
POSITION_EMBEDDINGS(position_embeddings_f32_f16, float, f16_t)
POSITION_EMBEDDINGS(position_embeddings_f32_bf16, float, bf16_t)
#undef POSITION_EMBEDDINGS
