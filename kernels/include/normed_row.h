// A row that every block of kernels/norm_linear.hip norms for itself: value = x, x + branch or x + norm(branch), and
// normed = norm(value). Bits are those of rms_norm and add one after the other; formula and order are in rms_norm.h.
#pragma once

#include "gemv.h"
#include "rms_norm.h"

// A row and what it is normed with.
struct NormRow {
    // [width]
    const float *x;
    // [width], or null
    const float *branch;
    // [width], or null
    const float *branch_weight;
    // [width]
    const float *weight;
    uint32_t width;
    double inverse_width;
    float branch_eps;
    float eps;

    // Element i before the norm; `branch_scale` is the factor of the branch's norm.
    __device__ float value(uint32_t i, float branch_scale) const {
        if (branch_weight) return x[i] + branch[i] * branch_scale * branch_weight[i];
        return branch ? x[i] + branch[i] : x[i];
    }
};

// The normed row of a block, of which the first KEPT elements stay on the chip.
template <uint32_t KEPT>
struct NormedRow {
    // Halves of chunks lie apart, so that lanes which load a half each meet no bank twice.
    static constexpr uint32_t HALF = CHUNK / 2;
    static constexpr uint32_t HALF_PITCH = KEPT / 2 + 16;
    static_assert(KEPT % CHUNK == 0, "a chunk is kept whole or not at all");

    // The others are computed anew from the factors.
    alignas(16) float kept[2 * HALF_PITCH];
    float branch_scale;
    float scale;

    // Where element i is kept.
    __device__ static uint32_t place_of(uint32_t i) { return i / HALF % 2 * HALF_PITCH + i / CHUNK * HALF + i % HALF; }

    // Calls kept_body(i - t, place) for the elements i = t, t + 256, ... of thread t that are kept, and other_body(i - t) for
    // the rest. No thread jumps alone but for the last element.
    template <typename Kept, typename Other>
    __device__ static inline void for_each_own(uint32_t width, Kept kept_body, Other other_body) {
        const uint32_t end = width < KEPT ? width : KEPT;
        // Elements 256 apart are as many halves of chunks apart.
        const uint32_t own = place_of(threadIdx.x);
        uint32_t base = 0;
        GPU_UNROLL(4)
        for (; base + NORM_LANES <= end; base += NORM_LANES) kept_body(base, own + base / 2);
        if (base + threadIdx.x < end) kept_body(base, own + base / 2);
        for (base = KEPT; base + threadIdx.x < width; base += NORM_LANES) other_body(base);
    }

    // Keeps the values that kept_value(i - t, place) and other_value(i - t) give, and gives the sum of their squares.
    template <bool FIRST_OF_BLOCK, typename Kept, typename Other>
    __device__ inline double keep(uint32_t width, Kept kept_value, Other other_value) {
        double squares = 0.0;
        const auto add = [&](float value) { squares = __builtin_fma((double)value, (double)value, squares); };
        for_each_own(
            width,
            [&](uint32_t base, uint32_t place) {
                const float value = kept_value(base, place);
                kept[place] = value;
                add(value);
            },
            [&](uint32_t base) { add(other_value(base)); });
        return sum_of_lanes<FIRST_OF_BLOCK>(squares);
    }

    // Norms a row, and writes its values to `sum` if that is not null.
    __device__ void norm(const NormRow &row, float *sum) {
        const uint32_t lane = threadIdx.x * (uint32_t)sizeof(float);
        const auto own = [lane](const float *vector, uint32_t base) { return *behind(vector + base, lane); };
        float branch_factor = 1.0f;
        // One loop for each kind of value: none of them asks in every turn.
        double squares;
        const auto other = [&](uint32_t base) { return row.value(base + threadIdx.x, branch_factor); };
        if (row.branch_weight) {
            squares = keep<true>(
                row.width, [&](uint32_t base, uint32_t) { return own(row.branch, base); },
                [&](uint32_t base) { return own(row.branch, base); });
            branch_factor = norm_scale(squares, row.inverse_width, row.branch_eps);
            const auto value = [&](uint32_t base, uint32_t place) {
                return own(row.x, base) + kept[place] * branch_factor * own(row.branch_weight, base);
            };
            squares = keep<false>(row.width, value, other);
        } else if (row.branch) {
            const auto value = [&](uint32_t base, uint32_t) { return own(row.x, base) + own(row.branch, base); };
            squares = keep<true>(row.width, value, other);
        } else {
            squares = keep<true>(row.width, [&](uint32_t base, uint32_t) { return own(row.x, base); }, other);
        }
        if (sum) {
            for_each_own(
                row.width, [&](uint32_t base, uint32_t place) { sum[base + threadIdx.x] = kept[place]; },
                [&](uint32_t base) {
                    sum[base + threadIdx.x] = row.value(base + threadIdx.x, branch_factor);
                });
        }
        const float factor = norm_scale(squares, row.inverse_width, row.eps);
        for_each_own(
            row.width,
            [&](uint32_t base, uint32_t place) { kept[place] = kept[place] * factor * own(row.weight, base); },
            [](uint32_t) {});
        if (threadIdx.x == 0) {
            branch_scale = branch_factor;
            scale = factor;
        }
        __syncthreads();
    }

    // An element of the normed row.
    __device__ float element(const NormRow &row, uint32_t i) const {
        if (i < KEPT) return kept[place_of(i)];
        return row.value(i, branch_scale) * scale * row.weight[i];
    }

    // A chunk of the normed row, from element `at` on: all of it is there, and everything is aligned to ALIGNMENT bytes.
    template <uint32_t ALIGNMENT = 16>
    __device__ void load(const NormRow &row, uint32_t at, float (&to)[CHUNK]) const {
        if (at < KEPT) {
            for (uint32_t half = 0; half < 2; ++half) {
                const float *from = kept + half * HALF_PITCH + at / 2;
                __builtin_memcpy(to + half * HALF, __builtin_assume_aligned(from, 16), HALF * sizeof(float));
            }
            return;
        }
        load_chunk<true, ALIGNMENT>(row.x + at, CHUNK, to);
        if (row.branch) {
            float added[CHUNK];
            load_chunk<true, ALIGNMENT>(row.branch + at, CHUNK, added);
            if (row.branch_weight) {
                float weight[CHUNK];
                load_chunk<true, ALIGNMENT>(row.branch_weight + at, CHUNK, weight);
                for (uint32_t i = 0; i < CHUNK; ++i) added[i] = added[i] * branch_scale * weight[i];
            }
            for (uint32_t i = 0; i < CHUNK; ++i) to[i] += added[i];
        }
        float weight[CHUNK];
        load_chunk<true, ALIGNMENT>(row.weight + at, CHUNK, weight);
        for (uint32_t i = 0; i < CHUNK; ++i) to[i] = to[i] * scale * weight[i];
    }
};
