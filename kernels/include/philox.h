// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11): 128 random bits that
// are a function of counter and key alone.
#pragma once

#include "gpu.h"

constexpr uint32_t PHILOX_ROUNDS = 10;

// Replaces the counter by its random words.
__device__ static inline void philox4x32(uint32_t (&counter)[4], uint32_t key_0, uint32_t key_1) {
    for (uint32_t round = 0; round < PHILOX_ROUNDS; ++round) {
        const uint64_t product_0 = (uint64_t)0xd2511f53u * counter[0];
        const uint64_t product_1 = (uint64_t)0xcd9e8d57u * counter[2];
        counter[0] = (uint32_t)(product_1 >> 32) ^ counter[1] ^ key_0;
        counter[1] = (uint32_t)product_1;
        counter[2] = (uint32_t)(product_0 >> 32) ^ counter[3] ^ key_1;
        counter[3] = (uint32_t)product_0;
        // The golden ratio and the square root of 3, less 1.
        key_0 += 0x9e3779b9u;
        key_1 += 0xbb67ae85u;
    }
}
