// Root-mean-square norm of a row (Zhang and Sennrich): (x * scale) * weight, scale = 1 / sqrt(mean(x^2) + eps).
//
// The sum of squares is f64 in one order for every card: element i belongs to lane i % 256, which adds its squares in
// ascending order; the lanes are then added in halves (l + 128, l + 64, ..., l + 1). Squares of f32 are exact in f64.
// A block of 256 threads takes a row, thread t being lane t.
#pragma once

#include "gpu.h"

// Threads of a block, and lanes of a sum.
constexpr uint32_t NORM_LANES = 256;
// Turns of a block through a row of which its lanes hold the elements in registers, where the row has as many: how many is
// known to the compiler, so that all of them are on their way at once.
constexpr uint32_t NORM_TURNS = 16;
// The elements of these turns.
constexpr uint32_t NORM_HELD = NORM_TURNS * NORM_LANES;

// Calls body(turn, i - t) for the elements i of thread t in the first TURNS turns.
template <uint32_t TURNS, typename Body>
__device__ static inline void for_each_held(Body body) {
    GPU_UNROLL(16)
    for (uint32_t turn = 0; turn < TURNS; ++turn) body(turn, turn * NORM_LANES);
}

// A thread's elements of these turns.
template <uint32_t TURNS>
struct Held {
    float values[TURNS > 0 ? TURNS : 1];

    __device__ float &operator[](uint32_t turn) { return values[turn]; }

    __device__ void load(const float *row) {
        for_each_held<TURNS>([&](uint32_t turn, uint32_t base) { values[turn] = (row + base)[threadIdx.x]; });
    }
};

// Calls body(i) for this thread's other elements i.
template <uint32_t TURNS, typename Body>
__device__ static inline void for_each_other(uint64_t width, Body body) {
    GPU_UNROLL(2)
    for (uint64_t i = TURNS * NORM_LANES + threadIdx.x; i < width; i += NORM_LANES) body(i);
}

// A lane's sum with the square of one more element, which is exact: the sum is rounded once.
__device__ static inline double add_square(double sum, float value) {
    return __builtin_fma((double)value, (double)value, sum);
}

// Where the lanes of a block put what they add.
__device__ static inline double (&lane_sums())[NORM_LANES] {
    __shared__ double sums[NORM_LANES];
    return sums;
}

// The lanes' sum, in every thread.
template <bool FIRST_OF_BLOCK = false>
__device__ static inline double sum_of_lanes(double lane_sum) {
    double(&sums)[NORM_LANES] = lane_sums();
    // Threads may still read the sums before these.
    if (!FIRST_OF_BLOCK) __syncthreads();
    sums[threadIdx.x] = lane_sum;
    __syncthreads();
    const double *column = sums + threadIdx.x % 32;
    double sum = ((column[0] + column[128]) + (column[64] + column[192])) +
                 ((column[32] + column[160]) + (column[96] + column[224]));
    sum += lane_xor<16>(sum);
    sum += lane_xor<8>(sum);
    sum += lane_xor<4>(sum);
    sum += lane_xor<2>(sum);
    sum += lane_xor<1>(sum);
    return sum;
}

// 1 / sqrt(value) within 3 units of 2^-53 of itself for a normal value: an estimate from the exponent, within 0.035, and
// four steps of Newton's method, each operation rounded once. 0 for infinity, NaN for NaN.
__device__ static inline double inverse_root(double value) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    bits = 0x5fe6eb50c7b537a9u - (bits >> 1);
    double root;
    __builtin_memcpy(&root, &bits, sizeof root);
    const double half = 0.5 * value;
    for (int step = 0; step < 4; ++step) root = root * (1.5 - half * root * root);
    if (value > 0.0 && value < __builtin_inf()) return root;
    return value == 0.0 ? __builtin_inf() : value > 0.0 ? 0.0 : __builtin_nan("");
}

// The factor of a row whose squares add up to `sum_of_squares`, rounded to f32 once.
__device__ static inline float norm_scale(double sum_of_squares, double inverse_width, float eps) {
    return (float)inverse_root(sum_of_squares * inverse_width + (double)eps);
}
