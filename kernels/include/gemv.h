// What kernels that multiply few rows with a matrix share: a block of 256 threads is GROUPS groups of LANES lanes, and a lane
// takes CHUNK elements of a row at once.
#pragma once

#include "gpu.h"

constexpr uint32_t LANES = 32;
constexpr uint32_t GROUPS = 8;
constexpr uint32_t CHUNK = 8;

// What lies `bytes` behind a pointer that is the same in all threads of the block: cards add such an offset as they load.
template <typename T>
__device__ static inline const T *behind(const T *pointer, uint32_t bytes) {
    return (const T *)((const char *)pointer + bytes);
}

// CHUNK elements from `from` on, widened. A WIDE chunk is whole and aligned to ALIGNMENT bytes; of any other chunk only `left`
// elements are there, and zeros follow them.
template <bool WIDE, uint32_t ALIGNMENT = 16, typename T>
__device__ static inline void load_chunk(const T *from, uint64_t left, float (&to)[CHUNK]) {
    if (WIDE) {
        T raw[CHUNK];
        __builtin_memcpy(raw, __builtin_assume_aligned(from, ALIGNMENT), sizeof raw);
        for (uint32_t i = 0; i < CHUNK; ++i) to[i] = widen(raw[i]);
    } else {
        for (uint32_t i = 0; i < CHUNK; ++i) to[i] = i < left ? widen(from[i]) : 0.0f;
    }
}

// Adds each of COUNT values over the lanes of a group, in halves. While several are left, a lane keeps one half of them
// and hands the other to its partner: lane l ends with the sums of values[at] onwards, max(1, COUNT / 32) of them, in front.
template <uint32_t COUNT, uint32_t DISTANCE = LANES / 2>
__device__ static inline uint32_t add_lanes(float *values, uint32_t lane) {
    uint32_t at = 0;
    constexpr uint32_t KEPT = COUNT > 1 ? COUNT / 2 : 1;
    if (COUNT > 1) {
        const bool upper = lane & DISTANCE;
        for (uint32_t i = 0; i < KEPT; ++i) {
            const float handed = upper ? values[i] : values[i + KEPT];
            values[i] = (upper ? values[i + KEPT] : values[i]) + lane_xor<DISTANCE>(handed);
        }
        at = upper ? KEPT : 0;
    } else {
        values[0] += lane_xor<DISTANCE>(values[0]);
    }
    if constexpr (DISTANCE > 1) at += add_lanes<KEPT, DISTANCE / 2>(values, lane);
    return at;
}

// The sum of SLICES groups from `first` on, in halves.
template <uint32_t SLICES, uint32_t DISTANCE = 1, uint32_t SIZE>
__device__ static inline float add_groups(const float (&sums)[GROUPS][SIZE], uint32_t first, uint32_t at) {
    if constexpr (DISTANCE == SLICES) {
        return sums[first][at];
    } else {
        return add_groups<SLICES, 2 * DISTANCE>(sums, first, at) +
               add_groups<SLICES, 2 * DISTANCE>(sums, first + DISTANCE, at);
    }
}
