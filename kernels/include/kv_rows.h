// Where the keys and the values of one layer of a cache lie: [kv_heads, capacity, row_len], a row [head_dim] and zeros for
// each token of each head. The host proves that heads and tokens lie inside.
#pragma once

#include "gpu.h"

template <typename T>
struct KvRows {
    T *keys;
    T *values;
    // Elements from one head to the next.
    uint64_t head_stride;
    uint32_t row_len;

    // Elements before the row of a token, which is counted from the start of the sequence.
    __device__ uint64_t offset(uint64_t head, uint64_t token) const { return head * head_stride + token * row_len; }
};
