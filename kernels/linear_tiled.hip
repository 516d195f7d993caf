// out = x W^T + b for x [tokens, in_features], W [out_features, in_features], out [tokens, out_features], for many tokens.
//
// A block of 256 threads takes tiles of TOKENS x Sums::ROWS of out in turn, those of the same rows of W one after another. Both
// operands go through shared memory, a step of each row at a time: while one stage is multiplied, the next one is on its way
// to registers, and from there to the other half of the memory.
//
// Order of a sum, whatever the number of tokens: steps in ascending order, from 0 again after each FOLD elements; those sums
// are added in ascending order, and the bias comes last. Where there are no matrix units, and for W of f32, the elements of a
// step are multiplied as they are, in ascending order, with fused multiply-adds. Else both operands are split into bf16:
//
//   x            = high + rest, each the nearest to what is left: |x - high - rest| <= 2^-17 |x|
//   W of f16     = high + rest, exactly; W of bf16 is high itself
//
// and a step adds rest(x) high(W), then high(x) rest(W) if there is one, then high(x) high(W).
#include "include/matrix.h"

namespace tiled {

constexpr uint32_t THREADS = 256;
constexpr uint32_t TOKENS = 64;
// A step of a row is so many units of 16 bytes in shared memory.
constexpr uint32_t UNITS = 4;
constexpr uint32_t FOLD = 256;
static_assert(TOKENS * UNITS == THREADS, "each thread has a unit of x");

struct Matrices {
    const float *x;
    const float *bias;
    float *out;
    uint64_t tokens;
    uint64_t in_features;
    uint64_t out_features;
};

// Where a row of shared memory has a unit: 8 threads are in different banks when they use one unit of 8 rows, and when they
// use all units of 2 rows.
__device__ static inline uint32_t place(uint32_t row, uint32_t unit) { return (unit ^ row / 2) % UNITS; }

// A step of the operands, each in pieces.
template <typename T, uint32_t ROWS, uint32_t X_PIECES, uint32_t W_PIECES>
struct Stage {
    static constexpr uint32_t UNIT = 16 / sizeof(T);
    static constexpr uint32_t STEP = UNITS * UNIT;

    alignas(16) T x[X_PIECES][TOKENS][STEP];
    alignas(16) T w[W_PIECES][ROWS][STEP];
};

template <typename From>
__device__ static inline void split(From value, float (&pieces)[1]) {
    pieces[0] = widen(value);
}

#if defined(GPU_MATRIX)
using matrix::split;
#endif

// Splits a unit of a row and writes it to a stage.
template <typename From, typename T, uint32_t PIECES, uint32_t HEIGHT, uint32_t STEP, uint32_t UNIT>
__device__ static inline void store_unit(const From (&raw)[UNIT], T (&stage)[PIECES][HEIGHT][STEP], uint32_t row,
                                         uint32_t unit) {
    T pieces[PIECES][UNIT];
    for (uint32_t i = 0; i < UNIT; ++i) {
        T split_value[PIECES];
        split(raw[i], split_value);
        for (uint32_t piece = 0; piece < PIECES; ++piece) pieces[piece][i] = split_value[piece];
    }
    for (uint32_t piece = 0; piece < PIECES; ++piece) {
        T *to = stage[piece][row] + place(row, unit) * UNIT;
        __builtin_memcpy(__builtin_assume_aligned(to, 16), pieces[piece], 16);
    }
}

// A unit from `column` on of a row, with zeros behind the last element. WIDE units are whole and aligned.
template <bool WIDE, typename T, uint32_t UNIT>
__device__ static inline void load_unit(const T *row, uint64_t column, uint64_t in_features, T (&raw)[UNIT]) {
    constexpr uint32_t ALIGNMENT = sizeof raw < 16 ? sizeof raw : 16;
    for (uint32_t i = 0; i < UNIT; ++i) raw[i] = T{};
    if (WIDE) {
        if (column < in_features) __builtin_memcpy(raw, __builtin_assume_aligned(row + column, ALIGNMENT), sizeof raw);
    } else {
        for (uint32_t i = 0; i < UNIT; ++i) {
            if (column + i < in_features) raw[i] = row[column + i];
        }
    }
}

// A thread's part of a step, on its way from memory to a stage: a unit of x, and one of so many rows of W. Rows and tokens
// beyond the last are the last.
template <bool WIDE, typename W, uint32_t UNIT, uint32_t LOADED_ROWS>
struct Part {
    const float *x_row;
    const W *w_rows[LOADED_ROWS];
    float x[UNIT];
    W w[LOADED_ROWS][UNIT];

    __device__ Part(const Matrices &m, const W *weight, uint64_t first_token, uint64_t first_row) {
        const uint64_t row = threadIdx.x / UNITS;
        const uint64_t token = first_token + row < m.tokens ? first_token + row : m.tokens - 1;
        x_row = m.x + token * m.in_features;
        for (uint32_t i = 0; i < LOADED_ROWS; ++i) {
            const uint64_t at = first_row + i * TOKENS + row;
            w_rows[i] = weight + (at < m.out_features ? at : m.out_features - 1) * m.in_features;
        }
    }

    __device__ void load(uint64_t first, uint64_t in_features) {
        const uint64_t column = first + threadIdx.x % UNITS * UNIT;
        load_unit<WIDE>(x_row, column, in_features, x);
        for (uint32_t i = 0; i < LOADED_ROWS; ++i) load_unit<WIDE>(w_rows[i], column, in_features, w[i]);
    }

    template <typename AnyStage>
    __device__ void store(AnyStage &stage) const {
        const uint32_t row = threadIdx.x / UNITS, unit = threadIdx.x % UNITS;
        store_unit(x, stage.x, row, unit);
        for (uint32_t i = 0; i < LOADED_ROWS; ++i) store_unit(w[i], stage.w, i * TOKENS + row, unit);
    }
};

// A thread's sums, by fused multiply-adds: those of neighbouring tokens and of every 32nd row.
struct ByVector {
    static constexpr uint32_t ROWS = 128;
    using Step = Stage<float, ROWS, 1, 1>;
    static constexpr uint32_t LANES = 32;
    static constexpr uint32_t HEIGHT = TOKENS / (THREADS / LANES);
    static constexpr uint32_t WIDTH = ROWS / LANES;

    float sums[HEIGHT][WIDTH] = {};

    __device__ static uint32_t first_token() { return threadIdx.x / LANES * HEIGHT; }

    __device__ void multiply(const Step &step) {
        const uint32_t lane = threadIdx.x % LANES;
        // One after another: laid out side by side they would take so many registers that few waves fit.
        GPU_UNROLL(1)
        for (uint32_t unit = 0; unit < UNITS; ++unit) {
            float w[WIDTH][Step::UNIT];
            for (uint32_t j = 0; j < WIDTH; ++j) load(step.w[0], j * LANES + lane, unit, w[j]);
            for (uint32_t i = 0; i < HEIGHT; ++i) {
                float x[Step::UNIT];
                load(step.x[0], first_token() + i, unit, x);
                for (uint32_t j = 0; j < WIDTH; ++j) {
                    for (uint32_t k = 0; k < Step::UNIT; ++k) sums[i][j] = __builtin_fmaf(w[j][k], x[k], sums[i][j]);
                }
            }
        }
    }

    __device__ void add(ByVector &to) {
        for (uint32_t i = 0; i < HEIGHT; ++i) {
            for (uint32_t j = 0; j < WIDTH; ++j) {
                to.sums[i][j] += sums[i][j];
                sums[i][j] = 0.0f;
            }
        }
    }

    // The thread's rows and tokens, counted in the tile, and their sums.
    static constexpr uint32_t OWN_ROWS = WIDTH;
    static constexpr uint32_t OWN_TOKENS = HEIGHT;
    __device__ static uint32_t row(uint32_t j) { return j * LANES + threadIdx.x % LANES; }
    __device__ static uint32_t token(uint32_t i) { return first_token() + i; }
    __device__ float sum(uint32_t i, uint32_t j) const { return sums[i][j]; }

    template <uint32_t ALL>
    __device__ static void load(const float (&rows)[ALL][Step::STEP], uint32_t row, uint32_t unit,
                                float (&to)[Step::UNIT]) {
        __builtin_memcpy(to, __builtin_assume_aligned(rows[row] + place(row, unit) * Step::UNIT, 16), sizeof to);
    }
};

#if defined(GPU_MATRIX)

// A wave's sums, by matrix units: half of the tile's tokens, and a part of its rows.
template <uint32_t W_PIECES>
struct ByMatrix {
    // As many as 48 KiB have room for where lanes have registers for their sums.
    static constexpr uint32_t ROWS = matrix::COLUMNS > 1 && W_PIECES == 1 ? 256 : 128;
    using Step = Stage<bf16_t, ROWS, 2, W_PIECES>;
    static constexpr uint32_t WAVES_ACROSS = THREADS / matrix::LANES / 2;
    static constexpr uint32_t HEIGHT = TOKENS / 2 / matrix::SIDE;
    static constexpr uint32_t WIDTH = ROWS / WAVES_ACROSS / matrix::SIDE;

    matrix::Sums sums[HEIGHT][WIDTH] = {};

    __device__ static uint32_t lane() { return threadIdx.x % matrix::LANES; }
    __device__ static uint32_t wave() { return threadIdx.x / matrix::LANES; }
    __device__ static uint32_t first_token() { return wave() / WAVES_ACROSS * HEIGHT * matrix::SIDE; }
    __device__ static uint32_t first_row() { return wave() % WAVES_ACROSS * WIDTH * matrix::SIDE; }

    __device__ void multiply(const Step &step) {
        matrix::Fragment x[2][HEIGHT];
        for (uint32_t piece = 0; piece < 2; ++piece) {
            for (uint32_t i = 0; i < HEIGHT; ++i) x[piece][i] = load(step.x[piece], first_token() + i * matrix::SIDE);
        }
        for (uint32_t j = 0; j < WIDTH; ++j) {
            matrix::Fragment w[W_PIECES];
            for (uint32_t piece = 0; piece < W_PIECES; ++piece) {
                w[piece] = load(step.w[piece], first_row() + j * matrix::SIDE);
            }
            for (uint32_t i = 0; i < HEIGHT; ++i) matrix::multiply_add(x[1][i], w[0], lane(), sums[i][j]);
            for (uint32_t i = 0; i < HEIGHT && W_PIECES > 1; ++i) {
                matrix::multiply_add(x[0][i], w[W_PIECES - 1], lane(), sums[i][j]);
            }
            for (uint32_t i = 0; i < HEIGHT; ++i) matrix::multiply_add(x[0][i], w[0], lane(), sums[i][j]);
        }
    }

    __device__ void add(ByMatrix &to) {
        for (uint32_t i = 0; i < HEIGHT; ++i) {
            for (uint32_t j = 0; j < WIDTH; ++j) {
                for (uint32_t c = 0; c < matrix::COLUMNS; ++c) {
                    for (uint32_t r = 0; r < matrix::ROWS; ++r) {
                        to.sums[i][j].at[c][r] += sums[i][j].at[c][r];
                        sums[i][j].at[c][r] = 0.0f;
                    }
                }
            }
        }
    }

    static constexpr uint32_t OWN_ROWS = WIDTH * matrix::COLUMNS;
    static constexpr uint32_t OWN_TOKENS = HEIGHT * matrix::ROWS;
    __device__ static uint32_t row(uint32_t j) {
        return first_row() + j / matrix::COLUMNS * matrix::SIDE + matrix::column_of(lane(), j % matrix::COLUMNS);
    }
    __device__ static uint32_t token(uint32_t i) {
        return first_token() + i / matrix::ROWS * matrix::SIDE + matrix::row_of(lane(), i % matrix::ROWS);
    }
    __device__ float sum(uint32_t i, uint32_t j) const {
        return sums[i / matrix::ROWS][j / matrix::COLUMNS].at[j % matrix::COLUMNS][i % matrix::ROWS];
    }

    template <uint32_t ALL>
    __device__ static matrix::Fragment load(const bf16_t (&rows)[ALL][Step::STEP], uint32_t first) {
        return matrix::load(lane(), [&](uint32_t row, uint32_t unit) {
            return rows[first + row] + place(row, unit) * Step::UNIT;
        });
    }
};

#endif

// What multiplies W of type T.
template <typename T>
struct Chosen {
    using Sums = ByVector;
};

#if defined(GPU_MATRIX)
template <>
struct Chosen<f16_t> {
    using Sums = ByMatrix<2>;
};
template <>
struct Chosen<bf16_t> {
    using Sums = ByMatrix<1>;
};
#endif

template <bool WIDE, typename Sums, typename W>
__device__ static inline void multiply_tile(const Matrices &m, const W *weight, uint64_t first_token, uint64_t first_row,
                                            typename Sums::Step (&stages)[2]) {
    constexpr uint32_t STEP = Sums::Step::STEP;
    Part<WIDE, W, Sums::Step::UNIT, Sums::ROWS / TOKENS> part(m, weight, first_token, first_row);
    // Where the tile ends early, some waves only help to load.
    const bool multiplies = first_token + Sums::first_token() < m.tokens;
    Sums sums, folded;
    part.load(0, m.in_features);
    // No thread reads the stages of the tile before any more: a barrier ends each step.
    part.store(stages[0]);
    __syncthreads();
    uint32_t stage = 0;
    for (uint64_t first = 0; first < m.in_features; first += STEP) {
        const bool more = first + STEP < m.in_features;
        if (more) part.load(first + STEP, m.in_features);
        if (multiplies) sums.multiply(stages[stage]);
        stage ^= 1;
        if (more) part.store(stages[stage]);
        if (!more || (first + STEP) % FOLD == 0) sums.add(folded);
        __syncthreads();
    }
    for (uint32_t j = 0; j < Sums::OWN_ROWS; ++j) {
        const uint64_t row = first_row + Sums::row(j);
        if (row >= m.out_features) continue;
        // Adding -0 changes nothing.
        const float bias = m.bias ? m.bias[row] : -0.0f;
        for (uint32_t i = 0; i < Sums::OWN_TOKENS; ++i) {
            const uint64_t token = first_token + Sums::token(i);
            if (token < m.tokens) m.out[token * m.out_features + row] = folded.sum(i, j) + bias;
        }
    }
}

template <typename W>
__device__ static inline void linear(const Matrices &m, const W *weight) {
    using Sums = typename Chosen<W>::Sums;
    __shared__ typename Sums::Step stages[2];
    const uint64_t token_tiles = (m.tokens + TOKENS - 1) / TOKENS;
    const uint64_t tiles = (m.out_features + Sums::ROWS - 1) / Sums::ROWS * token_tiles;
    // A whole number of units, so that rows start aligned if the first does.
    const bool wide = m.in_features % Sums::Step::UNIT == 0 && (uint64_t)m.x % 16 == 0 && (uint64_t)weight % 16 == 0;
    for (uint64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const uint64_t first_token = tile % token_tiles * TOKENS;
        const uint64_t first_row = tile / token_tiles * Sums::ROWS;
        if (wide) {
            multiply_tile<true, Sums>(m, weight, first_token, first_row, stages);
        } else {
            multiply_tile<false, Sums>(m, weight, first_token, first_row, stages);
        }
    }
}

}  // namespace tiled

#define LINEAR_TILED(NAME, W)                                                                                          \
    extern "C" __global__ void __launch_bounds__(tiled::THREADS)                                                       \
        NAME(const W *weight, const float *x, const float *bias, float *out, uint64_t tokens, uint64_t in_features,    \
             uint64_t out_features) {                                                                                  \
        tiled::linear({x, bias, out, tokens, in_features, out_features}, weight);                                      \
    }

LINEAR_TILED(linear_f32_tiled, float)
LINEAR_TILED(linear_f16_tiled, f16_t)
LINEAR_TILED(linear_bf16_tiled, bf16_t)
#undef LINEAR_TILED
