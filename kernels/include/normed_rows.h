// Rows that every block of kernels/norm_linear.hip norms for itself: value = x, x + branch or x + norm(branch), and
// normed = norm(value). Bits are those of rms_norm and add one after the other; formula and order are in rms_norm.h.
#pragma once

#include "gemv.h"
#include "rms_norm.h"

struct NormRows {
    // [tokens, width]
    const float *x;
    // [tokens, width], or null
    const float *branch;
    // [width], or null
    const float *branch_weight;
    // [tokens, width]: where values go, or null
    float *sum;
    // [width]
    const float *weight;
    uint64_t tokens;
    uint32_t width;
    double inverse_width;
    float branch_eps;
    float eps;
};

// The normed rows of a block, which are TOKENS at most.
template <uint32_t TOKENS>
struct NormedRows {
    // Elements of each row that stay on the chip; the others are computed anew from the factors.
    static constexpr uint32_t KEPT = TOKENS == 1 ? NORM_KEPT : NORM_KEPT * 3 / 2 / TOKENS;
    // Halves of chunks lie apart, so that lanes which load a half each meet no bank twice.
    static constexpr uint32_t HALF = CHUNK / 2;
    static constexpr uint32_t HALF_PITCH = KEPT / 2 + 16;
    static_assert(KEPT % CHUNK == 0, "a chunk is kept whole or not at all");

    alignas(16) float kept[TOKENS][2 * HALF_PITCH];
    float branch_scale[TOKENS];
    float scale[TOKENS];

    __device__ float &kept_at(uint32_t token, uint32_t i) {
        return kept[token][i / HALF % 2 * HALF_PITCH + i / CHUNK * HALF + i % HALF];
    }

    // Norms a row; thread t takes the elements t, t + 256, ... of it. `writes` says whether this block writes its values.
    __device__ void norm_row(const NormRows &rows, uint64_t row, uint32_t token, bool writes) {
        const float *x = rows.x + row * rows.width;
        const float *branch = rows.branch + row * rows.width;
        float branch_factor = 1.0f;
        if (rows.branch_weight) {
            double squares = 0.0;
            for (uint32_t i = threadIdx.x; i < rows.width; i += NORM_LANES) {
                const float value = branch[i];
                if (i < KEPT) kept_at(token, i) = value;
                squares = __builtin_fma((double)value, (double)value, squares);
            }
            branch_factor = norm_scale(sum_of_lanes(squares), rows.inverse_width, rows.branch_eps);
        }
        double squares = 0.0;
        for (uint32_t i = threadIdx.x; i < rows.width; i += NORM_LANES) {
            float value = x[i];
            if (rows.branch_weight) {
                const float added = i < KEPT ? kept_at(token, i) : branch[i];
                value += added * branch_factor * rows.branch_weight[i];
            } else if (rows.branch) {
                value += branch[i];
            }
            if (writes) rows.sum[row * rows.width + i] = value;
            if (i < KEPT) kept_at(token, i) = value;
            squares = __builtin_fma((double)value, (double)value, squares);
        }
        const float factor = norm_scale(sum_of_lanes(squares), rows.inverse_width, rows.eps);
        for (uint32_t i = threadIdx.x; i < KEPT && i < rows.width; i += NORM_LANES) {
            kept_at(token, i) = kept_at(token, i) * factor * rows.weight[i];
        }
        if (threadIdx.x == 0) {
            branch_scale[token] = branch_factor;
            scale[token] = factor;
        }
    }

    // Norms `count` rows from `first` on. The blocks along y, which all do so, share the writing of their values.
    __device__ void norm(const NormRows &rows, uint64_t first, uint32_t count) {
        for (uint32_t token = 0; token < count; ++token) {
            norm_row(rows, first + token, token, rows.sum && token % gridDim.y == blockIdx.y);
        }
        __syncthreads();
    }

    // An element of a normed row.
    __device__ float element(const NormRows &rows, uint64_t first, uint32_t token, uint32_t i) {
        if (i < KEPT) return kept_at(token, i);
        const uint64_t at = (first + token) * rows.width + i;
        float value = rows.x[at];
        if (rows.branch) {
            value += rows.branch_weight ? rows.branch[at] * branch_scale[token] * rows.branch_weight[i] : rows.branch[at];
        }
        return value * scale[token] * rows.weight[i];
    }

    // A chunk of a normed row, from element `at` on: all of it is there, and everything is aligned to 16 bytes.
    __device__ void load(const NormRows &rows, uint64_t first, uint32_t token, uint32_t at, float (&to)[CHUNK]) const {
        if (at < KEPT) {
            for (uint32_t half = 0; half < 2; ++half) {
                const float *from = kept[token] + half * HALF_PITCH + at / 2;
                __builtin_memcpy(to + half * HALF, __builtin_assume_aligned(from, 16), HALF * sizeof(float));
            }
            return;
        }
        const uint32_t offset = anew((token * rows.width + at) * (uint32_t)sizeof(float));
        load_chunk<true>(behind(rows.x + first * rows.width, offset), CHUNK, to);
        if (rows.branch) {
            float added[CHUNK];
            load_chunk<true>(behind(rows.branch + first * rows.width, offset), CHUNK, added);
            if (rows.branch_weight) {
                float weight[CHUNK];
                load_chunk<true>(rows.branch_weight + at, CHUNK, weight);
                for (uint32_t i = 0; i < CHUNK; ++i) added[i] = added[i] * branch_scale[token] * weight[i];
            }
            for (uint32_t i = 0; i < CHUNK; ++i) to[i] += added[i];
        }
        float weight[CHUNK];
        load_chunk<true>(rows.weight + at, CHUNK, weight);
        for (uint32_t i = 0; i < CHUNK; ++i) to[i] = to[i] * scale[token] * weight[i];
    }
};
