// out = norm(value) W^T + b for few rows of x and up to three matrices in one launch, where value is x, x + branch or
// x + norm(branch) and is written to `sum`; or out = silu(gate) * up of such a product. So the residual connection, the norms
// and what they go to are one launch.
//
// Every block norms the rows for itself, from the card's cache (include/normed_rows.h), and keeps them on the chip. Sums are
// those of kernels/linear.hip in 8 slices: chunk c of a row belongs to lane c % 256, whatever the number of tokens.
//
// A block has TOKENS rows of x, by its index along x, and takes tiles of ROWS rows of a matrix, along y in turn; a lane has its
// chunk of each. So blocks that follow each other read the same rows of a matrix. Half of a gated tile's rows are gates, the other half the rows that they gate. A row has less than 2^26 elements, so
// that 32 bits are enough within a tile.
#include "include/normed_rows.h"
#include "include/silu.h"

namespace norm_linear {

constexpr uint32_t BLOCK_LANES = GROUPS * LANES;

template <typename T>
struct Layer {
    const T *weight;
    const float *bias;
    float *out;
    // Width of a row of out; 0 where there is no such layer.
    uint64_t out_features;
};

// Matrices of a launch.
constexpr uint32_t LAYERS = 3;

template <bool WIDE_ROWS, uint32_t TOKENS_OF_PASS, uint32_t ROWS_OF_TILE, bool GATED_ROWS>
struct Form {
    // Rows are of whole chunks and start aligned to 16 bytes, and each layer has at least a tile of them.
    static constexpr bool WIDE = WIDE_ROWS;
    static constexpr bool GATED = GATED_ROWS;
    static constexpr uint32_t TOKENS = TOKENS_OF_PASS;
    static constexpr uint32_t ROWS = ROWS_OF_TILE;
    static constexpr uint32_t SUMS = ROWS * TOKENS;
    // Elements of out's rows that a tile gives.
    static constexpr uint32_t COLUMNS = GATED ? ROWS / 2 : ROWS;
};

template <typename F, typename T>
struct Shared {
    // Here they take no registers while the block is at work with one of them.
    Layer<T> layers[LAYERS];
    NormedRows<F::TOKENS> normed;
    // Tiles alternate, so that threads may still read the sums of the tile before.
    float group_sums[2][GROUPS][F::SUMS];
};

// Adds the products of this lane's chunks to sums[row * TOKENS + token], for the tile's rows from `first_column` on. Tokens
// beyond the last are the last.
template <typename F, typename T>
__device__ static inline void add_products(const NormRows &x, const NormedRows<F::TOKENS> &normed, uint64_t first_token,
                                           uint32_t last_token, const Layer<T> &layer, uint64_t first_column,
                                           float (&sums)[F::SUMS]) {
    const T *const tile = layer.weight + first_column * x.width;
    const uint64_t up = layer.out_features * x.width;
    const uint32_t offset = threadIdx.x * CHUNK;
    for (uint32_t base = 0; base < x.width; base += BLOCK_LANES * CHUNK) {
        const uint32_t at = base + offset;
        if (at >= x.width) break;
        float x_chunks[F::TOKENS][CHUNK];
        for (uint32_t token = 0; token < F::TOKENS; ++token) {
            const uint32_t present = token < last_token ? token : last_token;
            normed.load(x, first_token, present, at, x_chunks[token]);
        }
        uint32_t row_offset = 0;
        for (uint32_t row = 0; row < F::ROWS; ++row) {
            if (row % F::COLUMNS == 0) row_offset = anew(offset * (uint32_t)sizeof(T));
            const T *from = tile + base + (row < F::COLUMNS ? 0 : up);
            float w[CHUNK];
            load_chunk<true>(behind(from, row_offset), CHUNK, w);
            row_offset += x.width * (uint32_t)sizeof(T);
            for (uint32_t token = 0; token < F::TOKENS; ++token) {
                float &sum = sums[row * F::TOKENS + token];
                for (uint32_t i = 0; i < CHUNK; ++i) sum = __builtin_fmaf(w[i], x_chunks[token][i], sum);
            }
        }
    }
}

// The same for rows of any width that start anywhere, of one token. Rows beyond the last are the last.
template <typename F, typename T>
__device__ static inline void add_any_products(const NormRows &x, NormedRows<1> &normed, uint64_t token,
                                               const Layer<T> &layer, uint64_t first_column, float (&sums)[F::SUMS]) {
    static_assert(F::TOKENS == 1, "");
    const T *rows[F::ROWS];
    for (uint32_t row = 0; row < F::ROWS; ++row) {
        const uint64_t column = first_column + row % F::COLUMNS;
        const uint64_t present = column < layer.out_features ? column : layer.out_features - 1;
        rows[row] = layer.weight + (present + (row < F::COLUMNS ? 0 : layer.out_features)) * x.width;
    }
    for (uint32_t at = threadIdx.x * CHUNK; at < x.width; at += BLOCK_LANES * CHUNK) {
        for (uint32_t i = at; i < at + CHUNK && i < x.width; ++i) {
            const float value = normed.element(x, token, 0, i);
            for (uint32_t row = 0; row < F::ROWS; ++row) sums[row] = __builtin_fmaf(widen(rows[row][i]), value, sums[row]);
        }
    }
}

// Writes the columns of a tile from `from` on, from the groups' sums.
template <typename F, typename T>
__device__ static inline void write_tile(const NormRows &x, const Layer<T> &layer,
                                         const float (&sums)[GROUPS][F::SUMS], uint64_t first_token,
                                         uint64_t first_column, uint64_t from) {
    const uint32_t row = threadIdx.x % F::COLUMNS;
    const uint32_t token = threadIdx.x / F::COLUMNS;
    const uint64_t column = first_column + row;
    if (token >= F::TOKENS || first_token + token >= x.tokens) return;
    if (column < from || column >= layer.out_features) return;
    float result = add_groups(sums, row * F::TOKENS + token);
    if (layer.bias) result += layer.bias[column];
    if (F::GATED) {
        float up = add_groups(sums, (row + F::COLUMNS) * F::TOKENS + token);
        if (layer.bias) up += layer.bias[layer.out_features + column];
        result = silu(result) * up;
    }
    layer.out[(first_token + token) * layer.out_features + column] = result;
}

// Where the tile for `column` begins: WIDE ones are always whole, the last one overlapping the one before it.
template <typename F, typename T>
__device__ static inline uint64_t first_of_tile(const Layer<T> &layer, uint64_t column) {
    const uint64_t last = layer.out_features - F::COLUMNS;
    return !F::WIDE || column < last ? column : last;
}

template <typename F, typename T>
__device__ static inline void multiply_tile(const NormRows &x, const Layer<T> &layer, uint64_t first_token,
                                            uint32_t last_token, uint64_t column,
                                            NormedRows<F::TOKENS> &normed,
                                            float (&group_sums)[GROUPS][F::SUMS]) {
    const uint64_t first_column = first_of_tile<F>(layer, column);
    float sums[F::SUMS] = {};
    if constexpr (F::WIDE) {
        add_products<F>(x, normed, first_token, last_token, layer, first_column, sums);
    } else {
        add_any_products<F>(x, normed, first_token, layer, first_column, sums);
    }
    const uint32_t lane = threadIdx.x % LANES;
    const uint32_t at = add_lanes<F::SUMS>(sums, lane);
    constexpr uint32_t COUNT = F::SUMS / LANES ? F::SUMS / LANES : 1;
    constexpr uint32_t COPIES = F::SUMS < LANES ? LANES / F::SUMS : 1;
    if (lane % COPIES == 0) {
        for (uint32_t i = 0; i < COUNT; ++i) group_sums[threadIdx.x / LANES][at + i] = sums[i];
    }
    __syncthreads();
    write_tile<F>(x, layer, group_sums, first_token, first_column, column);
}

// A layer that is the same in all threads, said to the compiler.
template <typename T>
__device__ static inline Layer<T> uniform_layer(const Layer<T> &layer) {
    return {(const T *)uniform((uint64_t)layer.weight), (const float *)uniform((uint64_t)layer.bias),
            (float *)uniform((uint64_t)layer.out), uniform(layer.out_features)};
}

template <typename F, typename T>
__device__ static inline void multiply(const NormRows &x, const Layer<T> &first, const Layer<T> &second,
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
    const uint64_t first_token = (uint64_t)blockIdx.x * F::TOKENS;
    const uint64_t left = x.tokens - first_token;
    const uint32_t count = left < F::TOKENS ? (uint32_t)left : F::TOKENS;
    shared.normed.norm(x, first_token, count);
    uint32_t turn = 0;
    for (uint64_t tile = blockIdx.y; tile < tiles; tile += gridDim.y, turn ^= 1) {
        const uint32_t at = (tile >= second_tile) + (tile >= third_tile);
        const uint64_t before = at == 0 ? 0 : at == 1 ? second_tile : third_tile;
        multiply_tile<F>(x, uniform_layer(shared.layers[at]), first_token, count - 1, (tile - before) * F::COLUMNS,
                         shared.normed, shared.group_sums[turn]);
    }
}

}  // namespace norm_linear

#define NORM_LINEAR(NAME, T, WIDE, TOKENS, ROWS, GATED)                                                                \
    extern "C" __global__ void __launch_bounds__(norm_linear::BLOCK_LANES)                                             \
        NAME(const float *x, const float *branch, const float *branch_weight, float *sum, const float *norm_weight,    \
             const T *weight_1, const float *bias_1, float *out_1, uint64_t out_features_1, const T *weight_2,         \
             const float *bias_2, float *out_2, uint64_t out_features_2, const T *weight_3, const float *bias_3,       \
             float *out_3, uint64_t out_features_3, uint64_t tokens, uint32_t in_features, double inverse_width,       \
             float branch_eps, float eps) {                                                                            \
        norm_linear::multiply<norm_linear::Form<WIDE, TOKENS, ROWS, GATED>, T>(                                        \
            {x, branch, branch_weight, sum, norm_weight, tokens, in_features, inverse_width, branch_eps, eps},         \
            {weight_1, bias_1, out_1, out_features_1}, {weight_2, bias_2, out_2, out_features_2},                      \
            {weight_3, bias_3, out_3, out_features_3});                                                                \
    }

// Rows of any width that start anywhere, and those of whole chunks that start aligned to 16 bytes, by the tokens of a pass.
#define NORM_LINEARS(TYPE, T)                                                                                          \
    NORM_LINEAR(norm_linear_##TYPE##_any, T, false, 1, 4, false)                                                       \
    NORM_LINEAR(norm_linear_##TYPE##_1, T, true, 1, 16, false)                                                         \
    NORM_LINEAR(norm_linear_##TYPE##_4, T, true, 4, 8, false)                                                         \
    NORM_LINEAR(norm_swiglu_##TYPE##_any, T, false, 1, 4, true)                                                        \
    NORM_LINEAR(norm_swiglu_##TYPE##_1, T, true, 1, 16, true)                                                          \
    NORM_LINEAR(norm_swiglu_##TYPE##_4, T, true, 4, 8, true)

NORM_LINEARS(f32, float)
NORM_LINEARS(f16, f16_t)
NORM_LINEARS(bf16, bf16_t)
#undef NORM_LINEARS
#undef NORM_LINEAR
