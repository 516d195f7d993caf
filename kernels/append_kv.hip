// Appends keys and values [tokens, kv_heads, head_dim] to a cache as they are, each rounded once to its type: the token t
// of the launch becomes the token first_row + t of the sequence. Blocks take tokens in turn, their threads the elements.
#include "include/kv_rows.h"
#include "include/per_head.h"

template <typename T>
__device__ static inline void append_kv(const float *k, const float *v, KvRows<T> cache, uint32_t first_row,
                                        uint32_t tokens, uint32_t kv_heads, uint32_t head_dim) {
    for (uint64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
        for_each_per_head(kv_heads, head_dim, [&](uint64_t head, uint32_t i) {
            const uint64_t from = (token * kv_heads + head) * head_dim + i;
            const uint64_t to = cache.offset(head, (uint64_t)first_row + token) + i;
            cache.keys[to] = narrow<T>(k[from]);
            cache.values[to] = narrow<T>(v[from]);
        });
    }
}

#define APPEND_KV(NAME, T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        NAME(const float *k, const float *v, T *keys, T *values, uint64_t cache_head_stride, uint32_t cache_row_len,   \
             uint32_t first_row, uint32_t tokens, uint32_t kv_heads, uint32_t head_dim) {                              \
        const KvRows<T> cache = {keys, values, cache_head_stride, cache_row_len};                                      \
        append_kv(k, v, cache, first_row, tokens, kv_heads, head_dim);                                                 \
    }

APPEND_KV(append_kv_f32, float)
APPEND_KV(append_kv_f16, f16_t)
APPEND_KV(append_kv_bf16, bf16_t)
#undef APPEND_KV
