// out = x W^T + b for x [tokens, in_features] and W [out_features, in_features] in quantised blocks, out [tokens, out_features].
// Weights are unpacked in registers and multiplied in f32 (include/blocks.h).
//
// Order of a sum, whatever the number of tokens: piece p of a row, which is 32 elements, belongs to lane p % lanes. A lane adds the
// products of its pieces in ascending order, those of a piece in the order of its parts, with fused multiply-adds from 0; the lanes
// are added in halves within their group of 32 (l + 16, ..., l + 1), the groups' sums in halves (g + 2, g + 1), and the bias comes
// last. There are 32 lanes, or 128 when `slices` is 4, since rows of 4096 are 128 pieces.
//
// More tokens than a pass takes are more passes over the matrix. A row has less than 2^25 elements, so that 32 bits are enough for
// the bytes of a tile.
#include "include/blocks.h"
#include "include/linear.h"

namespace linear_blocks {

constexpr uint32_t MOST_SLICES = 4;

// Rows of W that a set of lanes takes at once: of more, less is asked of x.
template <uint32_t TOKENS>
constexpr uint32_t ROWS_AT_ONCE = TOKENS == 1 ? 8 : 4;

// Adds the products of a piece of ROWS rows and one of the token that begins at `x`.
template <typename B, uint32_t ROWS>
__device__ static inline void add_piece(const blocks::Row (&rows)[ROWS], const float *x, uint32_t piece,
                                        float (&sums)[ROWS]) {
    float x_chunks[PARTS][CHUNK];
    for (uint32_t part = 0; part < PARTS; ++part) {
        load_chunk<true, 4>(x + blocks::first_of_part<B>(piece, part), CHUNK, x_chunks[part]);
    }
    GPU_UNROLL(8)
    for (uint32_t row = 0; row < ROWS; ++row) {
        if (row % blocks::ROWS_IN_FLIGHT == 0) piece = stay_behind(piece);
        blocks::add_products(blocks::load<B>(rows[row], piece), x_chunks, sums[row]);
    }
}

// The same for `tokens` that follow each other.
template <typename B, uint32_t ROWS, uint32_t SUMS>
__device__ static inline void add_pieces(const blocks::Row (&rows)[ROWS], const float *x, uint32_t width, uint64_t tokens,
                                         uint32_t piece, float (&sums)[SUMS]) {
    constexpr uint32_t TOKENS = SUMS / ROWS;
    B pieces[ROWS];
    for (uint32_t row = 0; row < ROWS; ++row) pieces[row] = blocks::load<B>(rows[row], piece);
    GPU_UNROLL(4)
    for (uint32_t part = 0; part < PARTS; ++part) {
        uint32_t offset = blocks::first_of_part<B>(piece, part) * (uint32_t)sizeof(float);
        float w[ROWS][CHUNK];
        for (uint32_t row = 0; row < ROWS; ++row) pieces[row].widen(part, w[row]);
#if defined(__CUDA__)
        // Sums whose index is not known would be in memory.
        GPU_UNROLL(8)
#endif
        for (uint32_t token = 0; token < TOKENS && token < tokens; ++token) {
            float x_chunk[CHUNK];
            load_chunk<true, 4>(behind(x, offset), CHUNK, x_chunk);
            offset += width * (uint32_t)sizeof(float);
            for (uint32_t row = 0; row < ROWS; ++row) {
                float &sum = sums[row * TOKENS + token];
                for (uint32_t i = 0; i < CHUNK; ++i) sum = __builtin_fmaf(w[row][i], x_chunk[i], sum);
            }
        }
    }
}

template <typename B, uint32_t TOKENS>
__device__ static inline void linear(const Matrices &m, const uint8_t *weight, uint32_t slices) {
    constexpr uint32_t ROWS = ROWS_AT_ONCE<TOKENS>;
    __shared__ float group_sums[GROUPS][ROWS * TOKENS];
    const uint32_t width = (uint32_t)m.in_features;
    const uint32_t row_bytes = width / B::LEN * B::BYTES;
    const auto add_products = [&](uint64_t first_row, uint32_t set, uint64_t first_token, uint32_t lane, uint32_t lanes,
                                  float(&sums)[ROWS * TOKENS]) {
        const uint8_t *const tile = weight + first_row * row_bytes;
        const uint32_t lead = (uint32_t)((uint64_t)tile % 4);
        // Rows beyond the last are the last.
        const uint64_t last_row = m.out_features - 1 - first_row;
        blocks::Row rows[ROWS];
        for (uint32_t row = 0; row < ROWS; ++row) {
            const uint32_t at = set * ROWS + row;
            rows[row] = {tile - lead, lead + (at < last_row ? at : (uint32_t)last_row) * row_bytes};
        }
        const float *x = m.x + first_token * width;
        for (uint32_t piece = lane; piece < width / PIECE; piece += lanes) {
            if constexpr (TOKENS == 1) {
                add_piece<B>(rows, x, piece, sums);
            } else {
                add_pieces<B>(rows, x, width, m.tokens - first_token, piece, sums);
            }
        }
    };
    multiply_tiles<ROWS, TOKENS, MOST_SLICES>(m, slices, group_sums, add_products);
}

}  // namespace linear_blocks

#define LINEAR_BLOCKS(NAME, B, TOKENS)                                                                                 \
    extern "C" __global__ void __launch_bounds__(GROUPS * LANES)                                                       \
        NAME(const uint8_t *weight, const float *x, const float *bias, float *out, uint64_t tokens,                    \
             uint64_t in_features, uint64_t out_features, uint32_t slices) {                                           \
        linear_blocks::linear<blocks::B, TOKENS>({x, bias, out, tokens, in_features, out_features}, weight, slices);   \
    }

// By the tokens of a pass.
#define LINEARS_BLOCKS(NAME, B)                                                                                        \
    LINEAR_BLOCKS(linear_##NAME##_1, B, 1)                                                                             \
    LINEAR_BLOCKS(linear_##NAME##_8, B, 8)

LINEARS_BLOCKS(q8_0, Q8_0)
LINEARS_BLOCKS(q4_0, Q4_0)
LINEARS_BLOCKS(q5_0, Q5_0)
LINEARS_BLOCKS(q5_1, Q5_1)
LINEARS_BLOCKS(q4_k, Q4_K)
LINEARS_BLOCKS(q5_k, Q5_K)
LINEARS_BLOCKS(q6_k, Q6_K)
#undef LINEARS_BLOCKS
#undef LINEAR_BLOCKS
