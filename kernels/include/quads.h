// Rows that are read and written four elements at a time, where they are whole quads that start aligned.
#pragma once

#include "gpu.h"

constexpr uint32_t QUAD = 4;

// Whether quads of T from here on are aligned.
template <typename T>
__device__ static inline bool has_quads(const T *row) {
    return (uint64_t)row % (QUAD * sizeof(T)) == 0;
}

template <typename T>
__device__ static inline void load_quad(const T *from, float (&to)[QUAD]) {
    T raw[QUAD];
    __builtin_memcpy(raw, __builtin_assume_aligned(from, QUAD * sizeof(T)), sizeof raw);
    for (uint32_t i = 0; i < QUAD; ++i) to[i] = widen(raw[i]);
}

template <typename T>
__device__ static inline void store_quad(const float (&from)[QUAD], T *to) {
    T raw[QUAD];
    for (uint32_t i = 0; i < QUAD; ++i) raw[i] = narrow<T>(from[i]);
    __builtin_memcpy(__builtin_assume_aligned(to, sizeof raw), raw, sizeof raw);
}

// This thread's place among those of a launch along x, and their number.
__device__ static inline uint64_t place_in_launch() { return (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ static inline uint64_t threads_of_launch() { return (uint64_t)gridDim.x * blockDim.x; }
