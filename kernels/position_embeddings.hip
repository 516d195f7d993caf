// Rotates queries and keys in place in one launch, each with its own head count; the formula is in include/rotate.h. With
// a cache, it also appends the rotated keys and the values to it, each rounded once to the cache's type: the token t of
// the launch becomes the token first_row + t of the sequence. Blocks take tokens in turn, the threads of a block take pairs
// of all heads in turn, the keys' heads after the queries', and then the elements that are copied as they are.
#include "include/kv_rows.h"
#include "include/rotate.h"

template <typename T, typename C>
__device__ static inline void position_embeddings(Rotation rotation, Heads<T> q, Heads<T> k, const T *v, KvRows<C> cache,
                                                  uint32_t first_row, uint32_t q_heads, uint32_t kv_heads,
                                                  uint32_t head_dim) {
    const uint64_t heads = (uint64_t)q_heads + kv_heads;
    const uint32_t rotary_dim = 2 * rotation.pairs;
    for (uint64_t token = blockIdx.x; token < rotation.tokens; token += gridDim.x) {
        const uint64_t row = (uint64_t)first_row + token;
        const T *k_token = k.data + token * k.token_stride;
        // Element i of a head of the rotated keys.
        const auto append_key = [&](uint64_t head, uint64_t i) {
            cache.keys[cache.offset(head, row) + i] = narrow<C>(widen(k_token[head * k.head_stride + i]));
        };
        for_each_per_head(heads, rotation.pairs, [&](uint64_t head, uint32_t pair) {
            if (head < q_heads) {
                rotate_pair(rotation, q, token, head, pair);
                return;
            }
            head -= q_heads;
            rotate_pair(rotation, k, token, head, pair);
            if (cache.keys) {
                const uint64_t first = first_of_pair(rotation, pair);
                append_key(head, first);
                append_key(head, first + rotation.pair_span);
            }
        });
        if (!cache.keys) continue;
        if (rotary_dim < head_dim) {
            for_each_per_head(kv_heads, head_dim - rotary_dim,
                              [&](uint64_t head, uint32_t i) { append_key(head, rotary_dim + i); });
        }
        for_each_per_head(kv_heads, head_dim, [&](uint64_t head, uint32_t i) {
            const T value = v[(token * kv_heads + head) * head_dim + i];
            cache.values[cache.offset(head, row) + i] = narrow<C>(widen(value));
        });
    }
}

// T is the type of the activations, C that of the cache, if there is one.
#define POSITION_EMBEDDINGS(NAME, T, C)                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        NAME(T *q, T *k, const T *v, C *keys, C *values, const float *cos, const float *sin,                           \
             const uint32_t *positions, const uint32_t *pair_axis, uint64_t q_token_stride, uint64_t q_head_stride,    \
             uint64_t k_token_stride, uint64_t k_head_stride, uint64_t cache_head_stride, uint32_t cache_row_len,      \
             uint32_t first_row, uint32_t tokens, uint32_t q_heads, uint32_t kv_heads, uint32_t head_dim,              \
             uint32_t rotary_dim, uint32_t pair_span) {                                                                \
        const Rotation rotation = {cos, sin, positions, pair_axis, tokens, rotary_dim / 2, pair_span};                 \
        const Heads<T> q_rows = {q, q_token_stride, q_head_stride};                                                    \
        const Heads<T> k_rows = {k, k_token_stride, k_head_stride};                                                    \
        const KvRows<C> cache = {keys, values, cache_head_stride, cache_row_len};                                      \
        position_embeddings(rotation, q_rows, k_rows, v, cache, first_row, q_heads, kv_heads, head_dim);               \
    }

POSITION_EMBEDDINGS(position_embeddings_f32, float, float)
POSITION_EMBEDDINGS(position_embeddings_f16, f16_t, f16_t)
POSITION_EMBEDDINGS(position_embeddings_bf16, bf16_t, bf16_t)
POSITION_EMBEDDINGS(position_embeddings_f32_f16, float, f16_t)
POSITION_EMBEDDINGS(position_embeddings_f32_bf16, float, bf16_t)
#undef POSITION_EMBEDDINGS
