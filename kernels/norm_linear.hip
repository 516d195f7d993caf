// Norms and the products of what they give with up to three matrices, in one launch: see include/norm_linear.h.
#include "include/blocks.h"
#include "include/norm_linear.h"

namespace norm_linear {

// Rows of T, of whole chunks that start aligned to 16 bytes. Chunk c of a row belongs to lane c % 256, as in kernels/linear.hip in 8
// slices, and a lane has its chunk of each row of a tile. A row has less than 2^26 elements, so that 32 bits are enough within a tile.
template <typename T, uint32_t TILE_ROWS>
struct Wide : Shape<1, TILE_ROWS, NORM_HELD> {
    using F = Wide;
    using Weight = T;
    static constexpr bool WIDE = true;

    // For the lanes' first chunks of a few rows: as much as comes while a row is normed.
    __device__ static inline void ask(uint32_t width, const Layer<T> &layer, uint64_t first_column) {
        if (threadIdx.x * CHUNK >= width) return;
        const T *const own = layer.weight + first_column * width + threadIdx.x * CHUNK;
        for (uint32_t row = 0; row < F::ROWS / 4; ++row) ask_ahead(own + row * width);
    }

    __device__ static inline void add_products(const NormRow &x, const typename F::Normed &normed, const Layer<T> &layer,
                                               bool gated, uint64_t first_column, float (&sums)[F::ROWS]) {
        const uint32_t columns = F::columns(gated);
        const T *const tile = layer.weight + first_column * x.width;
        const uint64_t up = layer.out_features * x.width;
        const uint32_t offset = threadIdx.x * CHUNK;
        for (uint32_t base = 0; base < x.width; base += BLOCK_LANES * CHUNK) {
            if (base + offset >= x.width) break;
            float x_chunk[CHUNK];
            normed.load(x, base + offset, x_chunk);
            uint32_t row_offset = 0;
            for (uint32_t row = 0; row < F::ROWS; ++row) {
                if (row % columns == 0) row_offset = anew(offset * (uint32_t)sizeof(T));
                const T *from = tile + base + (row < columns ? 0 : up);
                float w[CHUNK];
                load_chunk<true>(behind(from, row_offset), CHUNK, w);
                row_offset += x.width * (uint32_t)sizeof(T);
                for (uint32_t i = 0; i < CHUNK; ++i) sums[row] = __builtin_fmaf(w[i], x_chunk[i], sums[row]);
            }
        }
    }
};

// Rows of T of any width that start anywhere.
template <typename T, uint32_t TILE_ROWS>
struct Any : Shape<1, TILE_ROWS, NORM_HELD> {
    using F = Any;
    using Weight = T;
    static constexpr bool WIDE = false;

    // Rows beyond the last are the last.
    __device__ static inline void add_products(const NormRow &x, const typename F::Normed &normed, const Layer<T> &layer,
                                               bool gated, uint64_t first_column, float (&sums)[F::ROWS]) {
        const uint32_t columns = F::columns(gated);
        const T *rows[F::ROWS];
        for (uint32_t row = 0; row < F::ROWS; ++row) {
            const uint64_t column = first_column + row % columns;
            const uint64_t present = column < layer.out_features ? column : layer.out_features - 1;
            rows[row] = layer.weight + (present + (row < columns ? 0 : layer.out_features)) * x.width;
        }
        for (uint32_t at = threadIdx.x * CHUNK; at < x.width; at += BLOCK_LANES * CHUNK) {
            for (uint32_t i = at; i < at + CHUNK && i < x.width; ++i) {
                const float value = normed.element(x, i);
                for (uint32_t row = 0; row < F::ROWS; ++row) sums[row] = __builtin_fmaf(widen(rows[row][i]), value, sums[row]);
            }
        }
    }
};

// A normed row that is rounded to 8 bits (include/rounded.h).
struct RoundedRow {
    // Rows of the widest dense models are rounded once; of wider ones each tile rounds a stage after the other.
    static constexpr uint32_t STAGED = 8192;
    using Stage = rounded::Stage<1, STAGED>;

    NormedRow<NORM_HELD> normed;
    mutable Stage stage;
    // What wider rows are rounded from: here, it takes no registers.
    NormRow source;

    template <uint32_t TURNS, typename Ahead>
    __device__ inline void norm(const NormRow &row, float *sum, Ahead ahead) {
        if (threadIdx.x == 0) source = row;
        normed.template norm<TURNS>(row, sum, ahead);
        if (row.width <= STAGED) round(row, 0);
    }

    __device__ inline void round(const NormRow &row, uint32_t first) const {
        const uint32_t elements = row.width - first < STAGED ? row.width - first : STAGED;
        stage.round_rows(1, elements, [&](uint32_t, uint32_t at, float(&to)[CHUNK]) {
            normed.template load<4>(row, first + at, to);
        });
    }

    // Calls body(first) for each stage of a row of `width`, which begins at element `first`, while it holds it.
    template <typename Body>
    __device__ inline void for_each_stage(uint32_t width, Body body) const {
        if (width <= STAGED) return body(0);
        for (uint32_t first = 0; first < width; first += STAGED) {
            round(uniform_row(source), first);
            body(first);
        }
    }
};

// Rows of blocks B; what is normed may start at any element. Piece p of a row belongs to lane p % 128, as in
// kernels/linear_blocks.hip in 4 slices, and a block is two sets of as many lanes. A row has less than 2^25 elements, so that 32 bits
// are enough for the bytes within a tile.
template <typename B>
struct Blocks : Shape<2, 8, NORM_HELD> {
    using F = Blocks;
    using Normed = RoundedRow;
    using Weight = uint8_t;
    // Rows beyond the last are the last.
    static constexpr bool WIDE = false;
    // Rows whose pieces are loaded before the first is multiplied: with more, the registers of a lane run out.
    static constexpr uint32_t ROWS_IN_FLIGHT = 4;

    __device__ static inline void add_products(const NormRow &x, const RoundedRow &normed, const Layer<uint8_t> &layer,
                                               bool gated, uint64_t first_column, float (&sums)[F::ROWS]) {
        const uint32_t columns = F::set_columns(gated);
        constexpr uint32_t SET_LANES = BLOCK_LANES / F::SETS;
        const uint32_t row_bytes = x.width / B::LEN * B::BYTES;
        // All threads of a wave are in one set.
        const uint64_t column = first_column + uniform(threadIdx.x / SET_LANES) * columns;
        const uint64_t present = column < layer.out_features ? column : layer.out_features - 1;
        const uint64_t last = layer.out_features - 1 - present;
        const uint8_t *const gates = layer.weight + present * row_bytes;
        const uint8_t *const ups = gates + layer.out_features * row_bytes;
        normed.for_each_stage(x.width, [&](uint32_t first) {
            const uint32_t left = (x.width - first) / PIECE;
            const uint32_t pieces = left < RoundedRow::STAGED / PIECE ? left : RoundedRow::STAGED / PIECE;
            for (uint32_t piece = threadIdx.x % SET_LANES; piece < pieces; piece += SET_LANES) {
                blocks::Factor<B> factor;
                factor.load(normed.stage, 0, piece);
                uint32_t behind = first / PIECE + piece;
                GPU_UNROLL(8)
                for (uint32_t row = 0; row < F::ROWS; ++row) {
                    if (row % ROWS_IN_FLIGHT == 0) behind = stay_behind(behind);
                    const uint8_t *const from = row < columns ? gates : ups;
                    const uint32_t lead = (uint32_t)((uint64_t)from % 4);
                    const uint32_t in_set = row < columns ? row : row - columns;
                    const uint32_t offset = lead + (in_set < last ? in_set : (uint32_t)last) * row_bytes;
                    const blocks::Row at_row = {from - lead, offset};
                    blocks::add_products(blocks::load<B>(at_row, behind), factor, sums[row]);
                }
            }
        });
    }
};

}  // namespace norm_linear

#define NORM_LINEARS(TYPE, T)                                                                                          \
    NORM_LINEAR(norm_linear_##TYPE##_any, false, norm_linear::Any<T, 4>)                                               \
    NORM_LINEAR(norm_linear_##TYPE, false, norm_linear::Wide<T, 16>)                                                   \
    NORM_LINEAR(norm_swiglu_##TYPE##_any, true, norm_linear::Any<T, 4>)                                                \
    NORM_LINEAR(norm_swiglu_##TYPE, true, norm_linear::Wide<T, 16>)

NORM_LINEARS(f32, float)
NORM_LINEARS(f16, f16_t)
NORM_LINEARS(bf16, bf16_t)
#undef NORM_LINEARS

// Of blocks there is one kernel for either, which spends most of what it does on unpacking them.
NORM_LINEAR(norm_linear_q8_0, gated, norm_linear::Blocks<blocks::Q8_0>)
NORM_LINEAR(norm_linear_q4_0, gated, norm_linear::Blocks<blocks::Q4_0>)
NORM_LINEAR(norm_linear_q5_0, gated, norm_linear::Blocks<blocks::Q5_0>)
NORM_LINEAR(norm_linear_q5_1, gated, norm_linear::Blocks<blocks::Q5_1>)
NORM_LINEAR(norm_linear_q4_k, gated, norm_linear::Blocks<blocks::Q4_K>)
NORM_LINEAR(norm_linear_q5_k, gated, norm_linear::Blocks<blocks::Q5_K>)
NORM_LINEAR(norm_linear_q6_k, gated, norm_linear::Blocks<blocks::Q6_K>)
