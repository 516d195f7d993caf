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

// A row from the chip that is the same in all threads, said to the compiler.
__device__ static inline NormRow uniform_row(const NormRow &row) {
    const auto same = [](const float *vector) { return global_pointer<const float>(uniform((uint64_t)vector)); };
    NormRow own = row;
    own.x = same(row.x);
    own.branch = same(row.branch);
    own.branch_weight = same(row.branch_weight);
    own.weight = same(row.weight);
    return own;
}

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

    // Calls kept_body(i - t, place) for the elements i = t, t + 256, ... of thread t that are kept, but for those of the first
    // TURNS turns, and other_body(i - t) for the rest. No thread jumps alone but for the last element.
    template <uint32_t TURNS, typename Kept, typename Other>
    __device__ static inline void for_each_own(uint32_t width, Kept kept_body, Other other_body) {
        const uint32_t end = width < KEPT ? width : KEPT;
        // Elements 256 apart are as many halves of chunks apart.
        const uint32_t own = place_of(threadIdx.x);
        uint32_t base = TURNS * NORM_LANES;
        GPU_UNROLL(4)
        for (; base + NORM_LANES <= end; base += NORM_LANES) kept_body(base, own + base / 2);
        if (base + threadIdx.x < end) kept_body(base, own + base / 2);
        for (base = KEPT; base + threadIdx.x < width; base += NORM_LANES) other_body(base);
    }

    // Norms a row, and writes its values to `sum` if that is not null. What is read of the first TURNS turns is all on its way when
    // it calls ahead(), before it waits for any of it.
    template <uint32_t TURNS, typename Ahead>
    __device__ inline void norm(const NormRow &row, float *sum, Ahead ahead) {
        static_assert(TURNS * NORM_LANES <= KEPT, "what is held is kept in the end");
        const uint32_t lane = threadIdx.x * (uint32_t)sizeof(float);
        const auto own = [lane](const float *vector, uint32_t base) { return *behind(vector + base, lane); };
        Held<TURNS> values, added, weights;
        values.load(row.x);
        if (row.branch) added.load(row.branch);
        float branch_factor = 1.0f;
        if (row.branch_weight) {
            weights.load(row.branch_weight);
            ahead();
            double squares = 0.0;
            for_each_held<TURNS>([&](uint32_t turn, uint32_t) { squares = add_square(squares, added[turn]); });
            for_each_own<TURNS>(
                row.width, [&](uint32_t base, uint32_t) { squares = add_square(squares, own(row.branch, base)); },
                [&](uint32_t base) { squares = add_square(squares, own(row.branch, base)); });
            branch_factor = norm_scale(sum_of_lanes<true>(squares), row.inverse_width, row.branch_eps);
            for_each_held<TURNS>(
                [&](uint32_t turn, uint32_t) { added[turn] = added[turn] * branch_factor * weights[turn]; });
            // Threads may still read the lanes' sums.
            __syncthreads();
        } else {
            ahead();
        }
        weights.load(row.weight);
        if (row.branch) {
            for_each_held<TURNS>([&](uint32_t turn, uint32_t) { values[turn] += added[turn]; });
        }
        double squares = 0.0;
        for_each_held<TURNS>([&](uint32_t turn, uint32_t) { squares = add_square(squares, values[turn]); });
        const auto value = [&](uint32_t base) { return row.value(base + threadIdx.x, branch_factor); };
        for_each_own<TURNS>(
            row.width,
            [&](uint32_t base, uint32_t place) {
                kept[place] = value(base);
                squares = add_square(squares, kept[place]);
            },
            [&](uint32_t base) { squares = add_square(squares, value(base)); });
        if (sum) {
            const auto own_sum = [&](uint32_t base) -> float & { return sum[base + threadIdx.x]; };
            for_each_held<TURNS>([&](uint32_t turn, uint32_t base) { own_sum(base) = values[turn]; });
            for_each_own<TURNS>(
                row.width, [&](uint32_t base, uint32_t place) { own_sum(base) = kept[place]; },
                [&](uint32_t base) { own_sum(base) = value(base); });
        }
        const float factor = norm_scale(sum_of_lanes<true>(squares), row.inverse_width, row.eps);
        const uint32_t place = place_of(threadIdx.x);
        for_each_held<TURNS>(
            [&](uint32_t turn, uint32_t base) { kept[place + base / 2] = values[turn] * factor * weights[turn]; });
        for_each_own<TURNS>(
            row.width, [&](uint32_t base, uint32_t at) { kept[at] = kept[at] * factor * own(row.weight, base); },
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
