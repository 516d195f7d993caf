// What the forms of kernels/norm_linear.hip share: out = norm(value) W^T + b for few rows and up to three matrices in one launch,
// where value is x, x + branch or x + norm(branch) and is written to `sum`; or out = silu(gate) * up of such a product. So the
// residual connection, the norms and what they go to are one launch.
//
// Every block norms its row for itself, from the card's cache, and keeps it on the chip (normed_row.h). A block has a row of x, by its
// index along x, and takes tiles of rows of a matrix, along y in turn. So blocks that follow each other read the same rows of a
// matrix. Half of a gated tile's rows are gates, the other half the rows that they gate.
//
// The lanes of a block are SETS sets, each of which takes ROWS rows of a tile and cuts them up among its lanes.
#pragma once

#include "normed_row.h"
#include "silu.h"

namespace norm_linear {

constexpr uint32_t BLOCK_LANES = GROUPS * LANES;
// Matrices of a launch.
constexpr uint32_t LAYERS = 3;

template <typename T>
struct Layer {
    const T *weight;
    const float *bias;
    float *out;
    // Width of a row of out; 0 where there is no such layer.
    uint64_t out_features;
};

// What the forms of a kernel have in common. A form also has
//
//   Weight                                                  what a matrix is read as
//   WIDE                                                    each layer has at least a tile
//   add_products(x, normed, layer, gated, first_column, sums)    adds what this lane has of the products of its set's rows, of
//                                                                the tile that begins at `first_column`, to their sums
template <uint32_t SETS_OF_BLOCK, uint32_t ROWS_OF_SET, uint32_t KEPT_ELEMENTS>
struct Shape {
    static constexpr uint32_t SETS = SETS_OF_BLOCK;
    static constexpr uint32_t ROWS = ROWS_OF_SET;
    using Normed = NormedRow<KEPT_ELEMENTS>;

    // Elements of out's rows that a set gives, and a tile.
    __device__ static uint32_t set_columns(bool gated) { return gated ? ROWS / 2 : ROWS; }

    __device__ static uint32_t columns(bool gated) { return SETS * set_columns(gated); }

    // Asks for what a tile begins with, before the block needs it.
    template <typename T>
    __device__ static inline void ask(uint32_t, const Layer<T> &, uint64_t) {}
};

template <typename F>
struct Shared {
    // Here they take no registers while the block is at work with one of them.
    Layer<typename F::Weight> layers[LAYERS];
    typename F::Normed normed;
    // Tiles alternate, so that threads may still read the sums of the tile before.
    float group_sums[2][GROUPS][F::ROWS];
};

// Writes the columns of a tile from `from` on, from the groups' sums.
template <typename F, typename T>
__device__ static inline void write_tile(const Layer<T> &layer, bool gated, const float (&sums)[GROUPS][F::ROWS],
                                         uint64_t token, uint64_t first_column, uint64_t from) {
    constexpr uint32_t SLICES = GROUPS / F::SETS;
    const uint64_t column = first_column + threadIdx.x;
    if (threadIdx.x >= F::columns(gated) || column < from || column >= layer.out_features) return;
    const uint32_t first = threadIdx.x / F::set_columns(gated) * SLICES;
    const uint32_t row = threadIdx.x % F::set_columns(gated);
    float result = add_groups<SLICES>(sums, first, row);
    if (layer.bias) result += layer.bias[column];
    if (gated) {
        float up = add_groups<SLICES>(sums, first, row + F::set_columns(gated));
        if (layer.bias) up += layer.bias[layer.out_features + column];
        result = silu(result) * up;
    }
    layer.out[token * layer.out_features + column] = result;
}

// Where the tile for `column` begins: WIDE ones are always whole, the last one overlapping the one before it.
template <typename F, typename T>
__device__ static inline uint64_t first_of_tile(const Layer<T> &layer, bool gated, uint64_t column) {
    const uint64_t last = layer.out_features - F::columns(gated);
    return !F::WIDE || column < last ? column : last;
}

template <typename F, typename T>
__device__ static inline void multiply_tile(const NormRow &x, const typename F::Normed &normed, const Layer<T> &layer,
                                            bool gated, uint64_t token, uint64_t column,
                                            float (&group_sums)[GROUPS][F::ROWS]) {
    const uint64_t first_column = first_of_tile<F>(layer, gated, column);
    float sums[F::ROWS] = {};
    F::add_products(x, normed, layer, gated, first_column, sums);
    // What follows from the lane takes no registers between tiles.
    const uint32_t lane = anew(threadIdx.x % LANES);
    const uint32_t at = add_lanes<F::ROWS>(sums, lane);
    // As many lanes have the same sum.
    if (lane % (LANES / F::ROWS) == 0) group_sums[threadIdx.x / LANES][at] = sums[0];
    __syncthreads();
    write_tile<F>(layer, gated, group_sums, token, first_column, column);
}

// A layer that is the same in all threads, said to the compiler.
template <typename T>
__device__ static inline Layer<T> uniform_layer(const Layer<T> &layer) {
    return {global_pointer<const T>(uniform((uint64_t)layer.weight)),
            global_pointer<const float>(uniform((uint64_t)layer.bias)),
            global_pointer<float>(uniform((uint64_t)layer.out)), uniform(layer.out_features)};
}

template <typename F, typename T = typename F::Weight>
__device__ static inline void multiply(const NormRow &x, float *sum, bool gated, const Layer<T> &first,
                                       const Layer<T> &second, const Layer<T> &third) {
    __shared__ Shared<F> shared;
    const uint32_t columns = F::columns(gated);
    const auto tiles_of = [=](const Layer<T> &layer) { return (layer.out_features + columns - 1) / columns; };
    const uint64_t second_tile = tiles_of(first);
    const uint64_t third_tile = second_tile + tiles_of(second);
    const uint64_t tiles = third_tile + tiles_of(third);
    if (threadIdx.x == 0) {
        shared.layers[0] = first;
        shared.layers[1] = second;
        shared.layers[2] = third;
    }
    const uint64_t token = blockIdx.x;
    // The first tile's rows are on their way while the block norms its row.
    const auto ask = [&] {
        const uint64_t tile = blockIdx.y;
        if (tile < second_tile) {
            F::ask(x.width, first, first_of_tile<F>(first, gated, tile * columns));
        } else if (tile < third_tile) {
            F::ask(x.width, second, first_of_tile<F>(second, gated, (tile - second_tile) * columns));
        } else if (tile < tiles) {
            F::ask(x.width, third, first_of_tile<F>(third, gated, (tile - third_tile) * columns));
        }
    };
    float *const own_sum = blockIdx.y == 0 ? sum : nullptr;
    if (x.width < NORM_HELD) {
        shared.normed.template norm<0>(x, own_sum, ask);
    } else {
        shared.normed.template norm<NORM_TURNS>(x, own_sum, ask);
    }
    uint32_t turn = 0;
    for (uint64_t tile = blockIdx.y; tile < tiles; tile += gridDim.y, turn ^= 1) {
        const uint32_t at = (tile >= second_tile) + (tile >= third_tile);
        const uint64_t before = at == 0 ? 0 : at == 1 ? second_tile : third_tile;
        multiply_tile<F>(x, shared.normed, uniform_layer(shared.layers[at]), gated, token, (tile - before) * columns,
                         shared.group_sums[turn]);
    }
}

// The row of a block, of [tokens, width], or null.
template <typename T>
__device__ static inline T *own_row(T *rows, uint32_t width) {
    return rows ? rows + (uint64_t)blockIdx.x * width : nullptr;
}

}  // namespace norm_linear

// A kernel of a form, whose tiles are gated where GATED says so.
#define NORM_LINEAR(NAME, GATED, ...)                                                                                  \
    extern "C" __global__ void __launch_bounds__(norm_linear::BLOCK_LANES)                                             \
        NAME(const float *x, const float *branch, const float *branch_weight, float *sum, const float *norm_weight,    \
             const __VA_ARGS__::Weight *weight_1, const float *bias_1, float *out_1, uint64_t out_features_1,          \
             const __VA_ARGS__::Weight *weight_2, const float *bias_2, float *out_2, uint64_t out_features_2,          \
             const __VA_ARGS__::Weight *weight_3, const float *bias_3, float *out_3, uint64_t out_features_3,          \
             double inverse_width, uint32_t in_features, float branch_eps, float eps,                                  \
             [[maybe_unused]] uint32_t gated) {                                                                        \
        using namespace norm_linear;                                                                                   \
        const uint32_t width = in_features;                                                                            \
        multiply<__VA_ARGS__>({own_row(x, width), own_row(branch, width), branch_weight, norm_weight, width,           \
                               inverse_width, branch_eps, eps},                                                        \
                              own_row(sum, width), GATED, {weight_1, bias_1, out_1, out_features_1},                   \
                              {weight_2, bias_2, out_2, out_features_2}, {weight_3, bias_3, out_3, out_features_3});   \
    }
