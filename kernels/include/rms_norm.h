// Root-mean-square norm of a row (Zhang and Sennrich): (x * scale) * weight, scale = 1 / sqrt(mean(x^2) + eps).
//
// The sum of squares is f64 in one order for every card: element i belongs to lane i % 256, which adds its squares in
// ascending order; the lanes are then added in halves (l + 128, l + 64, ..., l + 1). Squares of f32 are exact in f64.
// A block of 256 threads takes a row, thread t being lane t.
#pragma once

#include "gpu.h"

// Threads of a block, and lanes of a sum.
constexpr uint32_t NORM_LANES = 256;
// Elements of a row that stay on the chip between its two passes.
constexpr uint32_t NORM_KEPT = 4096;

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
