// Rotates one tensor in place; the formula is in include/rotate.h. Blocks take tokens in turn, the threads of a block
// take pairs of all heads in turn, so any grid and any block size serve any shape.
#include "include/rotate.h"

template <typename T>
__device__ static inline void rope(Rotation rotation, Heads<T> x, uint32_t heads) {
    for (uint64_t token = blockIdx.x; token < rotation.tokens; token += gridDim.x) {
        for_each_per_head(heads, rotation.pairs, [&](uint64_t head, uint32_t pair) {
            rotate_pair(rotation, x, token, head, pair);
        });
    }
}

#define ROPE(NAME, T)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        NAME(T *x, const float *cos, const float *sin, const uint32_t *positions, const uint32_t *pair_axis,           \
             uint64_t token_stride, uint64_t head_stride, uint32_t tokens, uint32_t heads, uint32_t rotary_dim,        \
             uint32_t pair_span) {                                                                                     \
        const Rotation rotation = {cos, sin, positions, pair_axis, tokens, rotary_dim / 2, pair_span};                 \
        const Heads<T> x_rows = {x, token_stride, head_stride};                                                       \
        rope(rotation, x_rows, heads);                                                                                \
    }

ROPE(rope_f32, float)
ROPE(rope_f16, f16_t)
ROPE(rope_bf16, bf16_t)
#undef ROPE
