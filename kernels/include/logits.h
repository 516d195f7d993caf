// Rows of logits: how a block reads one, and which of its values is the largest.
#pragma once

#include "gpu.h"

// Threads of each block, which takes a whole row.
constexpr uint32_t LOGIT_THREADS = 1024;
// What stands for a row that holds no token to choose.
constexpr uint32_t NO_TOKEN = ~0u;

// Whole numbers in the order of their logits; zeros of either sign are equal. No logit is NaN.
__device__ static inline uint32_t ordered(float logit) {
    const float unsigned_zero = logit + 0.0f;
    uint32_t bits;
    __builtin_memcpy(&bits, &unsigned_zero, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Elements of a row that a thread takes at a time: quads of neighbours, or one.
template <uint32_t LENGTH>
struct LogitTurn {
    static constexpr uint32_t COUNT = LENGTH;
    static constexpr uint32_t QUAD = COUNT < 4 ? COUNT : 4;

    float logits[COUNT];
    uint64_t first;

    __device__ uint64_t index(uint32_t i) const { return first + i / QUAD * QUAD * LOGIT_THREADS + i % QUAD; }

    // The elements of the block's turn from `start` on, whose quads are aligned to 16 bytes.
    __device__ void load(const float *row, uint64_t start) {
        first = start + threadIdx.x * QUAD;
        for (uint32_t i = 0; i < COUNT; i += QUAD) {
            __builtin_memcpy(logits + i, __builtin_assume_aligned(row + index(i), 16), QUAD * sizeof(float));
        }
    }
};

// Calls body(turn) with a LogitTurn until the block has taken every element of a row; the indices of a thread ascend. Two
// quads a turn make loads wide and keep several on their way.
template <typename Body>
__device__ static inline void for_each_turn(const float *row, uint32_t width, Body body) {
    using Quads = LogitTurn<8>;
    constexpr uint32_t TAKEN = Quads::COUNT * LOGIT_THREADS;
    uint64_t done = 0;
    if ((uint64_t)row % 16 == 0) {
        for (; done + TAKEN <= width; done += TAKEN) {
            Quads turn;
            turn.load(row, done);
            body(turn);
        }
    }
    for (done += threadIdx.x; done < width; done += LOGIT_THREADS) body(LogitTurn<1>{{row[done]}, done});
}

__device__ static inline uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

// The index of the first maximum of a row, in every thread of the block; NO_TOKEN for a row that holds NaN or +inf, or
// nothing above -inf.
__device__ static inline uint32_t first_maximum(const float *row, uint32_t width) {
    __shared__ uint64_t keys[LOGIT_THREADS / 32];
    float best = -__builtin_inff();
    uint32_t at = 0;
    // The greatest bits of either sign, which are those of inf and NaN if there are any.
    int32_t positive = 0;
    uint32_t negative = 0;
    for_each_turn(row, width, [&](const auto &turn) {
        for (uint32_t i = 0; i < turn.COUNT; ++i) {
            const float logit = turn.logits[i];
            uint32_t bits;
            __builtin_memcpy(&bits, &logit, sizeof bits);
            positive = (int32_t)bits > positive ? (int32_t)bits : positive;
            negative = bits > negative ? bits : negative;
            // Indices of a thread ascend, so the first of equals stays.
            at = logit > best ? (uint32_t)turn.index(i) : at;
            best = logit > best ? logit : best;
        }
    });
    // Greater for a greater logit, and of equals for the lower index; 0 for nothing, the greatest for what is no logit.
    constexpr uint64_t UNUSABLE = ~(uint64_t)0;
    uint64_t key = best > -__builtin_inff() ? ((uint64_t)ordered(best) << 32) | (uint32_t)~at : 0;
    if (positive >= 0x7f800000 || negative > 0xff800000u) key = UNUSABLE;
    key = larger(key, lane_xor<16>(key));
    key = larger(key, lane_xor<8>(key));
    key = larger(key, lane_xor<4>(key));
    key = larger(key, lane_xor<2>(key));
    key = larger(key, lane_xor<1>(key));
    // Threads may still read the keys of the row before.
    __syncthreads();
    if (threadIdx.x % 32 == 0) keys[threadIdx.x / 32] = key;
    __syncthreads();
    for (uint32_t group = 0; group < LOGIT_THREADS / 32; ++group) key = larger(key, keys[group]);
    return key == 0 || key == UNUSABLE ? NO_TOKEN : ~(uint32_t)key;
}
