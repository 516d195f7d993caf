// out = norm(value) W^T + b for few rows and up to three matrices in one launch, where value is x, x + branch or
// x + norm(branch) and is written to `sum`; or out = silu(gate) * up of such a product. So the residual connection, the norms
// and what they go to are one launch.
//
// Every block norms its row for itself, from the card's cache, and keeps it on the chip (include/normed_row.h). Sums are those
// of kernels/linear.hip in 8 slices: chunk c of a row belongs to lane c % 256.
//
// A block has a row of x, by its index along x, and takes tiles of ROWS rows of a matrix, along y in turn; a lane has its chunk
// of each. So blocks that follow each other read the same rows of a matrix. Half of a gated tile's rows are gates, the other
// half the rows that they gate. A row has less than 2^26 elements, so that 32 bits are enough within a tile.
#include "include/normed_row.h"
#include "include/silu.h"

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

template <bool WIDE_ROWS, uint32_t ROWS_OF_TILE, bool GATED_ROWS>
struct Form {
    // Rows are of whole chunks and start aligned to 16 bytes, and each layer has at least a tile of them.
    static constexpr bool WIDE = WIDE_ROWS;
    static constexpr bool GATED = GATED_ROWS;
    static constexpr uint32_t ROWS = ROWS_OF_TILE;
    // Elements of out's rows that a tile gives.
    static constexpr uint32_t COLUMNS = GATED ? ROWS / 2 : ROWS;
};

template <typename F, typename T>
struct Shared {
    // Here they take no registers while the block is at work with one of them.
    Layer<T> layers[LAYERS];
    NormedRow normed;
    // Tiles alternate, so that threads may still read the sums of the tile before.
    float group_sums[2][GROUPS][F::ROWS];
};

// Adds the products of this lane's chunks to the sums of the tile's rows from `first_column` on.
template <typename F, typename T>
__device__ static inline void add_products(const NormRow &x, const NormedRow &normed, const Layer<T> &layer,
                                           uint64_t first_column, float (&sums)[F::ROWS]) {
    const T *const tile = layer.weight + first_column * x.width;
    const uint64_t up = layer.out_features * x.width;
    const uint32_t offset = threadIdx.x * CHUNK;
    for (uint32_t base = 0; base < x.width; base += BLOCK_LANES * CHUNK) {
        if (base + offset >= x.width) break;
        float x_chunk[CHUNK];
        normed.load(x, base + offset, x_chunk);
        uint32_t row_offset = 0;
        for (uint32_t row = 0; row < F::ROWS; ++row) {
            if (row % F::COLUMNS == 0) row_offset = anew(offset * (uint32_t)sizeof(T));
            const T *from = tile + base + (row < F::COLUMNS ? 0 : up);
            float w[CHUNK];
            load_chunk<true>(behind(from, row_offset), CHUNK, w);
            row_offset += x.width * (uint32_t)sizeof(T);
            for (uint32_t i = 0; i < CHUNK; ++i) sums[row] = __builtin_fmaf(w[i], x_chunk[i], sums[row]);
        }
    }
}

// The same for rows of any width that start anywhere. Rows beyond the last are the last.
template <typename F, typename T>
__device__ static inline void add_any_products(const NormRow &x, const NormedRow &normed, const Layer<T> &layer,
                                               uint64_t first_column, float (&sums)[F::ROWS]) {
    const T *rows[F::ROWS];
    for (uint32_t row = 0; row < F::ROWS; ++row) {
        const uint64_t column = first_column + row % F::COLUMNS;
        const uint64_t present = column < layer.out_features ? column : layer.out_features - 1;
        rows[row] = layer.weight + (present + (row < F::COLUMNS ? 0 : layer.out_features)) * x.width;
    }
    for (uint32_t at = threadIdx.x * CHUNK; at < x.width; at += BLOCK_LANES * CHUNK) {
        for (uint32_t i = at; i < at + CHUNK && i < x.width; ++i) {
            const float value = normed.element(x, i);
            for (uint32_t row = 0; row < F::ROWS; ++row) sums[row] = __builtin_fmaf(widen(rows[row][i]), value, sums[row]);
        }
    }
}

// Writes the columns of a tile from `from` on, from the groups' sums.
template <typename F, typename T>
__device__ static inline void write_tile(const Layer<T> &layer, const float (&sums)[GROUPS][F::ROWS], uint64_t token,
                                         uint64_t first_column, uint64_t from) {
    const uint32_t row = threadIdx.x;
    const uint64_t column = first_column + row;
    if (row >= F::COLUMNS || column < from || column >= layer.out_features) return;
    float result = add_groups(sums, row);
    if (layer.bias) result += layer.bias[column];
    if (F::GATED) {
        float up = add_groups(sums, row + F::COLUMNS);
        if (layer.bias) up += layer.bias[layer.out_features + column];
        result = silu(result) * up;
    }
    layer.out[token * layer.out_features + column] = result;
}

// Where the tile for `column` begins: WIDE ones are always whole, the last one overlapping the one before it.
template <typename F, typename T>
__device__ static inline uint64_t first_of_tile(const Layer<T> &layer, uint64_t column) {
    const uint64_t last = layer.out_features - F::COLUMNS;
    return !F::WIDE || column < last ? column : last;
}

template <typename F, typename T>
__device__ static inline void multiply_tile(const NormRow &x, const NormedRow &normed, const Layer<T> &layer,
                                            uint64_t token, uint64_t column, float (&group_sums)[GROUPS][F::ROWS]) {
    const uint64_t first_column = first_of_tile<F>(layer, column);
    float sums[F::ROWS] = {};
    if constexpr (F::WIDE) {
        add_products<F>(x, normed, layer, first_column, sums);
    } else {
        add_any_products<F>(x, normed, layer, first_column, sums);
    }
    const uint32_t lane = threadIdx.x % LANES;
    const uint32_t at = add_lanes<F::ROWS>(sums, lane);
    // As many lanes have the same sum.
    if (lane % (LANES / F::ROWS) == 0) group_sums[threadIdx.x / LANES][at] = sums[0];
    __syncthreads();
    write_tile<F>(layer, group_sums, token, first_column, column);
}

// A layer that is the same in all threads, said to the compiler.
template <typename T>
__device__ static inline Layer<T> uniform_layer(const Layer<T> &layer) {
    return {global_pointer<const T>(uniform((uint64_t)layer.weight)),
            global_pointer<const float>(uniform((uint64_t)layer.bias)),
            global_pointer<float>(uniform((uint64_t)layer.out)), uniform(layer.out_features)};
}

template <typename F, typename T>
__device__ static inline void multiply(const NormRow &x, float *sum, const Layer<T> &first, const Layer<T> &second,
                                       const Layer<T> &third) {
    __shared__ Shared<F, T> shared;
    const auto tiles_of = [](const Layer<T> &layer) { return (layer.out_features + F::COLUMNS - 1) / F::COLUMNS; };
    const uint64_t second_tile = tiles_of(first);
    const uint64_t third_tile = second_tile + tiles_of(second);
    const uint64_t tiles = third_tile + tiles_of(third);
    if (threadIdx.x == 0) {
        shared.layers[0] = first;
        shared.layers[1] = second;
        shared.layers[2] = third;
    }
    const uint64_t token = blockIdx.x;
    shared.normed.norm(x, blockIdx.y == 0 ? sum : nullptr);
    uint32_t turn = 0;
    for (uint64_t tile = blockIdx.y; tile < tiles; tile += gridDim.y, turn ^= 1) {
        const uint32_t at = (tile >= second_tile) + (tile >= third_tile);
        const uint64_t before = at == 0 ? 0 : at == 1 ? second_tile : third_tile;
        multiply_tile<F>(x, shared.normed, uniform_layer(shared.layers[at]), token, (tile - before) * F::COLUMNS,
                         shared.group_sums[turn]);
    }
}

// The row of a block, of [tokens, width], or null.
template <typename T>
__device__ static inline T *own_row(T *rows, uint32_t width) {
    return rows ? rows + (uint64_t)blockIdx.x * width : nullptr;
}

}  // namespace norm_linear

#define NORM_LINEAR(NAME, T, WIDE, ROWS, GATED)                                                                        \
    extern "C" __global__ void __launch_bounds__(norm_linear::BLOCK_LANES)                                             \
        NAME(const float *x, const float *branch, const float *branch_weight, float *sum, const float *norm_weight,    \
             const T *weight_1, const float *bias_1, float *out_1, uint64_t out_features_1, const T *weight_2,         \
             const float *bias_2, float *out_2, uint64_t out_features_2, const T *weight_3, const float *bias_3,       \
             float *out_3, uint64_t out_features_3, double inverse_width, uint32_t in_features, float branch_eps,      \
             float eps) {                                                                                              \
        using namespace norm_linear;                                                                                   \
        const uint32_t width = in_features;                                                                            \
        multiply<Form<WIDE, ROWS, GATED>, T>({own_row(x, width), own_row(branch, width), branch_weight, norm_weight,   \
                                              width, inverse_width, branch_eps, eps},                                  \
                                             own_row(sum, width), {weight_1, bias_1, out_1, out_features_1},           \
                                             {weight_2, bias_2, out_2, out_features_2},                                \
                                             {weight_3, bias_3, out_3, out_features_3});                               \
    }

// Rows of any width that start anywhere, and those of whole chunks that start aligned to 16 bytes.
#define NORM_LINEARS(TYPE, T)                                                                                          \
    NORM_LINEAR(norm_linear_##TYPE##_any, T, false, 4, false)                                                          \
    NORM_LINEAR(norm_linear_##TYPE, T, true, 16, false)                                                                \
    NORM_LINEAR(norm_swiglu_##TYPE##_any, T, false, 4, true)                                                           \
    NORM_LINEAR(norm_swiglu_##TYPE, T, true, 16, true)

NORM_LINEARS(f32, float)
NORM_LINEARS(f16, f16_t)
NORM_LINEARS(bf16, bf16_t)
#undef NORM_LINEARS
#undef NORM_LINEAR
