// Rotates queries and keys in place in one launch, each with its own head count; the formula is in include/rotate.h.
// Blocks take tokens in turn, the threads of a block take pairs of all heads in turn, the keys' heads after the
// queries'.
#include "include/rotate.h"

template <typename T>
__device__ static inline void position_embeddings(Rotation rotation, Heads<T> q, Heads<T> k, uint32_t q_heads,
                                                  uint32_t kv_heads) {
    const uint64_t heads = (uint64_t)q_heads + kv_heads;
    for (uint64_t token = blockIdx.x; token < rotation.tokens; token += gridDim.x) {
        for_each_pair(heads, rotation.pairs, [&](uint64_t head, uint32_t pair) {
            if (head < q_heads) {
                rotate_pair(rotation, q, token, head, pair);
            } else {
                rotate_pair(rotation, k, token, head - q_heads, pair);
            }
        });
    }
}

#define POSITION_EMBEDDINGS(NAME, T)                                                                                   \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        NAME(T *q, T *k, const float *cos, const float *sin, const uint32_t *positions, const uint32_t *pair_axis,     \
             uint64_t q_token_stride, uint64_t q_head_stride, uint64_t k_token_stride, uint64_t k_head_stride,         \
             uint32_t tokens, uint32_t q_heads, uint32_t kv_heads, uint32_t rotary_dim, uint32_t pair_span) {          \
        const Rotation rotation = {cos, sin, positions, pair_axis, tokens, rotary_dim / 2, pair_span};                 \
        const Heads<T> q_rows = {q, q_token_stride, q_head_stride};                                                    \
        const Heads<T> k_rows = {k, k_token_stride, k_head_stride};                                                    \
        position_embeddings(rotation, q_rows, k_rows, q_heads, kv_heads);                                              \
    }

POSITION_EMBEDDINGS(position_embeddings_f32, float)
POSITION_EMBEDDINGS(position_embeddings_f16, f16_t)
POSITION_EMBEDDINGS(position_embeddings_bf16, bf16_t)
#undef POSITION_EMBEDDINGS
