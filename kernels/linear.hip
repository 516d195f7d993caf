// out = x W^T + b for x [tokens, in_features], W [out_features, in_features], out [tokens, out_features], for decoding and
// small batches.
//
// Order of a sum, whatever the number of tokens: a chunk is CHUNK elements of a row; chunk c belongs to lane c % lanes,
// which adds its products in ascending order with fused multiply-adds from 0; the lanes are added in halves within their
// group of 32 (l + 16, ..., l + 1), the groups' sums in halves (g + 4, g + 2, g + 1), and the bias comes last. There are
// 32 lanes, or 256 when `slices` is 8.
#include "include/linear.h"

constexpr uint32_t ROWS = 4;

// Adds the products of this lane's chunks to sums[row * TOKENS + token]. Rows and tokens beyond the last are the last.
template <bool WIDE, uint32_t TOKENS, uint32_t ALL_LANES, typename T>
__device__ static inline void add_products(const Matrices &m, const T *weight, uint64_t first_row, uint64_t first_token,
                                           uint32_t lane, float (&sums)[ROWS * TOKENS]) {
    const T *rows[ROWS];
    for (uint32_t row = 0; row < ROWS; ++row) {
        const uint64_t at = first_row + row < m.out_features ? first_row + row : m.out_features - 1;
        rows[row] = weight + at * m.in_features;
    }
    const uint64_t last_token = m.tokens - 1 - first_token;
    const float *x = m.x + first_token * m.in_features;
    for (uint64_t at = (uint64_t)lane * CHUNK; at < m.in_features; at += ALL_LANES * CHUNK) {
        const uint64_t left = m.in_features - at;
        float w[ROWS][CHUNK];
        for (uint32_t row = 0; row < ROWS; ++row) load_chunk<WIDE>(rows[row] + at, left, w[row]);
        for (uint32_t token = 0; token < TOKENS; ++token) {
            float x_chunk[CHUNK];
            load_chunk<WIDE>(x + (token < last_token ? token : last_token) * m.in_features + at, left, x_chunk);
            for (uint32_t row = 0; row < ROWS; ++row) {
                float &sum = sums[row * TOKENS + token];
                for (uint32_t i = 0; i < CHUNK; ++i) sum = __builtin_fmaf(w[row][i], x_chunk[i], sum);
            }
        }
    }
}

template <bool WIDE, uint32_t TOKENS, uint32_t SLICES, typename T>
__device__ static inline void linear(const Matrices &m, const T *weight, float (&group_sums)[GROUPS][ROWS * TOKENS]) {
    const auto add = [&](uint64_t first_row, uint32_t set, uint64_t first_token, uint32_t lane, uint32_t,
                         float(&sums)[ROWS * TOKENS]) {
        add_products<WIDE, TOKENS, SLICES * LANES>(m, weight, first_row + set * ROWS, first_token, lane, sums);
    };
    multiply_tiles<ROWS, TOKENS, GROUPS>(m, SLICES, group_sums, add);
}

template <bool WIDE, uint32_t TOKENS, typename T>
__device__ static inline void linear(const Matrices &m, const T *weight, uint32_t slices) {
    __shared__ float group_sums[GROUPS][ROWS * TOKENS];
    if (slices == GROUPS) {
        linear<WIDE, TOKENS, GROUPS>(m, weight, group_sums);
    } else {
        linear<WIDE, TOKENS, 1>(m, weight, group_sums);
    }
}

#define LINEAR(NAME, T, WIDE, TOKENS)                                                                                  \
    extern "C" __global__ void __launch_bounds__(GROUPS * LANES)                                                       \
        NAME(const T *weight, const float *x, const float *bias, float *out, uint64_t tokens, uint64_t in_features,    \
             uint64_t out_features, uint32_t slices) {                                                                 \
        linear<WIDE, TOKENS>({x, bias, out, tokens, in_features, out_features}, weight, slices);                       \
    }

// Rows of any width that start anywhere, and those of whole chunks that start aligned to 16 bytes, by the tokens of a pass.
LINEAR(linear_f32_any, float, false, 1)
LINEAR(linear_f32_1, float, true, 1)
LINEAR(linear_f32_4, float, true, 4)
LINEAR(linear_f32_8, float, true, 8)
LINEAR(linear_f16_any, f16_t, false, 1)
LINEAR(linear_f16_1, f16_t, true, 1)
LINEAR(linear_f16_4, f16_t, true, 4)
LINEAR(linear_f16_8, f16_t, true, 8)
LINEAR(linear_bf16_any, bf16_t, false, 1)
LINEAR(linear_bf16_1, bf16_t, true, 1)
LINEAR(linear_bf16_4, bf16_t, true, 4)
LINEAR(linear_bf16_8, bf16_t, true, 8)
#undef LINEAR
