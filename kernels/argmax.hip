// The index of the first maximum of each row of logits [rows, width]; NO_TOKEN for a row that holds NaN or +infinity, or
// nothing above -infinity. Zeros of either sign are equal. Blocks take rows in turn.
#include "include/gpu.h"

constexpr uint32_t ARGMAX_THREADS = 1024;
constexpr uint32_t NO_TOKEN = ~0u;

// Greater for a greater value, and of equal values for the lower index: the value's bits in an order of integers, then the
// index's complement. Keys of -infinity are 0, those of NaN and +infinity are above all others.
__device__ static inline uint64_t key_of(float value, uint32_t index) {
    if (!(value < __builtin_inff())) return ~(uint64_t)0;
    if (value == -__builtin_inff()) return 0;
    const float unsigned_zero = value + 0.0f;
    uint32_t bits;
    __builtin_memcpy(&bits, &unsigned_zero, sizeof bits);
    const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return ((uint64_t)ordered << 32) | (uint32_t)~index;
}

__device__ static inline uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

// The largest key of the block, in every thread.
__device__ static inline uint64_t largest(uint64_t key) {
    __shared__ uint64_t keys[ARGMAX_THREADS / 32];
    key = larger(key, lane_xor<16>(key));
    key = larger(key, lane_xor<8>(key));
    key = larger(key, lane_xor<4>(key));
    key = larger(key, lane_xor<2>(key));
    key = larger(key, lane_xor<1>(key));
    // Threads may still read the keys of the row before.
    __syncthreads();
    if (threadIdx.x % 32 == 0) keys[threadIdx.x / 32] = key;
    __syncthreads();
    for (uint32_t group = 0; group < blockDim.x / 32; ++group) key = larger(key, keys[group]);
    return key;
}

extern "C" __global__ void __launch_bounds__(ARGMAX_THREADS)
    argmax_f32(const float *logits, uint32_t *tokens, uint64_t rows, uint32_t width) {
    for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *logits_row = logits + row * width;
        uint64_t key = 0;
        for (uint64_t i = threadIdx.x; i < width; i += blockDim.x) {
            key = larger(key, key_of(logits_row[i], (uint32_t)i));
        }
        key = largest(key);
        if (threadIdx.x == 0) tokens[row] = key == 0 || key == ~(uint64_t)0 ? NO_TOKEN : ~(uint32_t)key;
    }
}
