// Work that comes in equal parts for every head.
#pragma once

#include "gpu.h"

// Calls body(head, i) for every i below `count` of every head, shared out over the `threads` of the block. Quotients are
// taken once, not per call; count is at least 1.
template <typename Body>
__device__ static inline void for_each_per_head(uint64_t heads, uint32_t count, uint32_t threads, Body body) {
    const uint32_t head_step = threads / count;
    const uint32_t step = threads % count;
    uint64_t head = threadIdx.x / count;
    uint32_t i = threadIdx.x % count;
    while (head < heads) {
        body(head, i);
        head += head_step;
        i += step;
        if (i >= count) {
            i -= count;
            ++head;
        }
    }
}

template <typename Body>
__device__ static inline void for_each_per_head(uint64_t heads, uint32_t count, Body body) {
    for_each_per_head(heads, count, blockDim.x, body);
}
