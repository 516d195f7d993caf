// out = x W^T + b for x [tokens, in_features] and W [out_features, in_features] in quantised blocks, out [tokens, out_features].
// Tokens are rounded to 8 bits on the chip (include/rounded.h) and multiplied with the levels of the weight in whole numbers
// (include/blocks.h).
//
// Order of a sum, whatever the number of tokens: piece p of a row, which is 32 elements, belongs to lane p % lanes. A lane adds what
// its pieces give in ascending order, with fused multiply-adds from 0: for each scale of a piece the whole product, and then what the
// minimum takes away. The lanes are added in halves within their group of 32 (l + 16, ..., l + 1), the groups' sums in halves
// (g + 2, g + 1), and the bias comes last. There are 32 lanes, or 128 when `slices` is 4, since rows of 4096 are 128 pieces.
//
// More tokens than a pass takes are more passes over the matrix. A row has less than 2^25 elements, so that 32 bits are enough for
// the bytes of a tile.
#include "include/blocks.h"
#include "include/linear.h"

namespace linear_blocks {

constexpr uint32_t MOST_SLICES = 4;
// Rows of W that a set of lanes takes at once: of more, less is asked of x.
constexpr uint32_t ROWS = 8;
// Those whose pieces are loaded before the first is multiplied: with more, the registers of a lane run out.
template <uint32_t TOKENS>
constexpr uint32_t ROWS_IN_FLIGHT = TOKENS == 1 ? ROWS : ROWS / 2;

// Elements of the tokens of a pass that are on the chip at once: rows of 13696 for one, a piece for each lane for more.
template <uint32_t TOKENS>
using Stage = rounded::Stage<TOKENS, TOKENS == 1 ? 16384 : MOST_SLICES * LANES * PIECE>;

// Adds the products of a piece of the rows from FIRST on, and of the same piece of `tokens` rows of a stage, where it is `staged`.
template <typename B, uint32_t TOKENS, uint32_t FIRST = 0>
__device__ static inline __attribute__((always_inline)) void add_piece(const blocks::Row (&rows)[ROWS], uint32_t piece,
                                                                       Stage<TOKENS> &stage, uint32_t staged, uint32_t tokens,
                                                                       float (&sums)[ROWS * TOKENS]) {
    constexpr uint32_t IN_FLIGHT = ROWS_IN_FLIGHT<TOKENS>;
    piece = stay_behind(piece);
    B pieces[IN_FLIGHT];
    for (uint32_t row = 0; row < IN_FLIGHT; ++row) pieces[row] = blocks::load<B>(rows[FIRST + row], piece);
    GPU_UNROLL(8)
    for (uint32_t token = 0; token < TOKENS; ++token) {
        // What follows from them takes no registers between pieces.
        if (TOKENS > 1 && token >= uniform(anew(tokens))) continue;
        blocks::Factor<B> x;
        x.load(stage, token, staged);
        for (uint32_t row = 0; row < IN_FLIGHT; ++row) {
            blocks::add_products(pieces[row], x, sums[(FIRST + row) * TOKENS + token]);
        }
    }
    if constexpr (FIRST + IN_FLIGHT < ROWS) {
        add_piece<B, TOKENS, FIRST + IN_FLIGHT>(rows, piece, stage, staged, tokens, sums);
    }
}

template <typename B, uint32_t TOKENS>
__device__ static inline void linear(const Matrices &m, const uint8_t *weight, uint32_t slices) {
    __shared__ float group_sums[GROUPS][ROWS * TOKENS];
    __shared__ Stage<TOKENS> stage;
    const uint32_t width = (uint32_t)m.in_features;
    const uint32_t row_bytes = width / B::LEN * B::BYTES;
    const auto add_products = [&](uint64_t first_row, uint32_t set, uint64_t first_token, uint32_t lane, uint32_t lanes,
                                  float(&sums)[ROWS * TOKENS]) __attribute__((always_inline)) {
        const uint8_t *const tile = weight + first_row * row_bytes;
        const uint32_t lead = (uint32_t)((uint64_t)tile % 4);
        // Rows beyond the last are the last.
        const uint64_t last_row = m.out_features - 1 - first_row;
        blocks::Row rows[ROWS];
        for (uint32_t row = 0; row < ROWS; ++row) {
            const uint32_t at = set * ROWS + row;
            rows[row] = {tile - lead, lead + (at < last_row ? at : (uint32_t)last_row) * row_bytes};
        }
        const uint64_t left = m.tokens - first_token;
        const uint32_t tokens = left < TOKENS ? (uint32_t)left : TOKENS;
        for (uint32_t first = 0; first < width; first += Stage<TOKENS>::LEN) {
            const uint32_t elements = width - first < Stage<TOKENS>::LEN ? width - first : Stage<TOKENS>::LEN;
            const float *x = m.x + first_token * width + first;
            stage.round_rows(tokens, elements, [=](uint32_t token, uint32_t at, float(&to)[CHUNK]) {
                load_chunk<true, 4>(x + token * width + at, CHUNK, to);
            });
            for (uint32_t piece = lane; piece < elements / PIECE; piece += lanes) {
                add_piece<B, TOKENS>(rows, first / PIECE + piece, stage, piece, tokens, sums);
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
