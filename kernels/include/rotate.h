// Rotary embedding of heads [tokens, heads, head_dim], in place (Su et al., RoFormer). Every layout is one formula:
//
//   pairs = rotary_dim / 2
//   a(p)  = (p / pair_span) * 2 * pair_span + p % pair_span     first element of pair p; the second is a + pair_span
//   row   = positions[pair_axis[p] * tokens + token]            row of cos and sin [length, pairs]
//   x'[a] = x[a] cos - x[b] sin
//   x'[b] = x[b] cos + x[a] sin
//
// pair_span 1 is interleaved pairs, rotary_dim / 2 is halves, rotary_dim / 4 is ChatGLM-6B's two blocks of halves. The
// host proves rotary_dim >= 2, pair_span >= 1 and every row inside the table before it launches. The sources are compiled with
// -ffp-contract=off, so each product and each sum is rounded once, as on the CPU.
#pragma once

#include "per_head.h"

struct Rotation {
    const float *cos;
    const float *sin;
    const uint32_t *positions;
    const uint32_t *pair_axis;
    uint32_t tokens;
    uint32_t pairs;
    uint32_t pair_span;
};

// Strides are in elements.
template <typename T>
struct Heads {
    T *data;
    uint64_t token_stride;
    uint64_t head_stride;
};

// The first element of a pair within its head.
__device__ static inline uint64_t first_of_pair(Rotation rotation, uint32_t pair) {
    const uint32_t span = rotation.pair_span;
    return (uint64_t)(pair / span) * 2 * span + pair % span;
}

// The row of cos and sin for a pair.
__device__ static inline uint64_t row_of_pair(Rotation rotation, uint64_t token, uint32_t pair) {
    return rotation.positions[(uint64_t)rotation.pair_axis[pair] * rotation.tokens + token];
}

// Rotates the elements of a pair.
__device__ static inline void rotate(float cos, float sin, float &a, float &b) {
    const float a_wide = a;
    const float b_wide = b;
    a = a_wide * cos - b_wide * sin;
    b = b_wide * cos + a_wide * sin;
}

template <typename T>
__device__ static inline void rotate_pair(Rotation rotation, Heads<T> x, uint64_t token, uint64_t head, uint32_t pair) {
    const uint64_t row = row_of_pair(rotation, token, pair);
    T *a = x.data + token * x.token_stride + head * x.head_stride + first_of_pair(rotation, pair);
    T *b = a + rotation.pair_span;
    float a_wide = widen(*a);
    float b_wide = widen(*b);
    rotate(rotation.cos[row * rotation.pairs + pair], rotation.sin[row * rotation.pairs + pair], a_wide, b_wide);
    *a = narrow<T>(a_wide);
    *b = narrow<T>(b_wide);
}
