// Rotates queries and keys in place in one launch, each with its own head count; the formula is in include/rotate.h. With
// a cache, it also appends the rotated keys and the values to it, each rounded once to the cache's type; Appended in
// include/kv_rows.h says where. A block takes a token, its threads take pairs of all heads in turn, the
// keys' heads after the queries', and then the elements that are copied as they are.
#include "include/kv_rows.h"
#include "include/rotate.h"

template <typename T, typename C>
__device__ static inline void position_embeddings(Rotation rotation, Heads<T> q, Heads<T> k, const T *v, KvRows<C> cache,
                                                  Appended to, uint32_t q_heads, uint32_t kv_heads, uint32_t head_dim) {
    const uint64_t heads = (uint64_t)q_heads + kv_heads;
    const uint32_t rotary_dim = 2 * rotation.pairs;
    const uint64_t token = blockIdx.x;
    if (token >= rotation.tokens) return;
    const uint32_t sequence = to.sequence_of((uint32_t)token);
    const uint32_t row = cache.keys ? to.row_of((uint32_t)token) : 0;
    const bool appends = cache.keys && cache.has(sequence, row);
    const uint64_t first_row = appends ? cache.offset(sequence, 0, row) : 0;
    const T *k_token = k.data + token * k.token_stride;
    // Element i of a head of the rotated keys.
    const auto append_key = [&](uint64_t head, uint64_t i) {
        cache.keys[first_row + head * cache.head_stride + i] = narrow<C>(widen(k_token[head * k.head_stride + i]));
    };
    for_each_per_head(heads, rotation.pairs, [&](uint64_t head, uint32_t pair) {
        if (head < q_heads) {
            rotate_pair(rotation, q, token, head, pair);
            return;
        }
        head -= q_heads;
        rotate_pair(rotation, k, token, head, pair);
        if (appends) {
            const uint64_t first = first_of_pair(rotation, pair);
            append_key(head, first);
            append_key(head, first + rotation.pair_span);
        }
    });
    if (!appends) return;
    if (rotary_dim < head_dim) {
        for_each_per_head(kv_heads, head_dim - rotary_dim,
                          [&](uint64_t head, uint32_t i) { append_key(head, rotary_dim + i); });
    }
    for_each_per_head(kv_heads, head_dim, [&](uint64_t head, uint32_t i) {
        const T value = v[(token * kv_heads + head) * head_dim + i];
        cache.values[first_row + head * cache.head_stride + i] = narrow<C>(widen(value));
    });
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
        position_embeddings(rotation, q_rows, k_rows, v, cache, {lengths, sequence, first_row}, q_heads, kv_heads,     \
                            head_dim);                                                                                 \
    }

POSITION_EMBEDDINGS(position_embeddings_f32, float, float)
POSITION_EMBEDDINGS(position_embeddings_f16, f16_t, f16_t)
POSITION_EMBEDDINGS(position_embeddings_bf16, bf16_t, bf16_t)
POSITION_EMBEDDINGS(position_embeddings_f32_f16, float, f16_t)
POSITION_EMBEDDINGS(position_embeddings_f32_bf16, float, bf16_t)
#undef POSITION_EMBEDDINGS
