// What kernels/linear.hip and kernels/linear_blocks.hip share: how a block goes through its tiles of out, and adds up the sums of
// its lanes.
//
// A block of 256 threads is 8 groups of 32 lanes. `SLICES` groups are a set, which takes ROWS rows of the matrix, TOKENS rows of x
// after the other; each of its groups takes a part of their elements. Blocks take tiles, the rows of their sets, in turn.
#pragma once

#include "gemv.h"

struct Matrices {
    const float *x;
    const float *bias;
    float *out;
    uint64_t tokens;
    uint64_t in_features;
    uint64_t out_features;
};

// Writes the block's tile of out from the groups' sums.
template <uint32_t ROWS, uint32_t TOKENS, uint32_t SLICES>
__device__ static inline void write_tile(const Matrices &m, const float (&sums)[GROUPS][ROWS * TOKENS],
                                         uint64_t first_row, uint64_t first_token) {
    constexpr uint32_t TILE_ROWS = GROUPS / SLICES * ROWS;
    for (uint32_t i = threadIdx.x; i < TILE_ROWS * TOKENS; i += GROUPS * LANES) {
        const uint64_t row = first_row + i % TILE_ROWS;
        const uint64_t token = first_token + i / TILE_ROWS;
        if (row >= m.out_features || token >= m.tokens) continue;
        const uint32_t at = i % ROWS * TOKENS + i / TILE_ROWS;
        const float sum = add_groups<SLICES>(sums, i % TILE_ROWS / ROWS * SLICES, at);
        m.out[token * m.out_features + row] = m.bias ? sum + m.bias[row] : sum;
    }
}

// Goes through the tiles of a block with one of `slices`, which is 1 or MOST_SLICES. add_products(first_row, set, first_token, lane,
// lanes, sums) adds what lane `lane` of the `lanes` of a set has of its products to sums[row * TOKENS + token]; `first_row` is the
// tile's.
template <uint32_t ROWS, uint32_t TOKENS, uint32_t MOST_SLICES, typename AddProducts>
__device__ static inline void multiply_tiles(const Matrices &m, uint32_t slices,
                                             float (&group_sums)[GROUPS][ROWS * TOKENS], AddProducts add_products) {
    const bool is_sliced = slices == MOST_SLICES;
    const uint32_t lane = threadIdx.x % LANES;
    const uint32_t group = threadIdx.x / LANES;
    const uint32_t set = is_sliced ? group / MOST_SLICES : group;
    const uint32_t lanes = is_sliced ? MOST_SLICES * LANES : LANES;
    const uint32_t tile_rows = is_sliced ? GROUPS / MOST_SLICES * ROWS : GROUPS * ROWS;
    for (uint64_t tile = blockIdx.x; tile * tile_rows < m.out_features; tile += gridDim.x) {
        const uint64_t first_row = tile * tile_rows;
        for (uint64_t first_token = 0; first_token < m.tokens; first_token += TOKENS) {
            float sums[ROWS * TOKENS] = {};
            add_products(first_row, set, first_token, threadIdx.x % lanes, lanes, sums);
            const uint32_t at = add_lanes<ROWS * TOKENS>(sums, lane);
            // Threads may still read the sums of the tile before.
            __syncthreads();
            constexpr uint32_t KEPT = ROWS * TOKENS / LANES ? ROWS * TOKENS / LANES : 1;
            constexpr uint32_t COPIES = ROWS * TOKENS < LANES ? LANES / (ROWS * TOKENS) : 1;
            if (lane % COPIES == 0) {
                for (uint32_t i = 0; i < KEPT; ++i) group_sums[group][at + i] = sums[i];
            }
            __syncthreads();
            if (is_sliced) {
                write_tile<ROWS, TOKENS, MOST_SLICES>(m, group_sums, first_row, first_token);
            } else {
                write_tile<ROWS, TOKENS, 1>(m, group_sums, first_row, first_token);
            }
        }
    }
}
