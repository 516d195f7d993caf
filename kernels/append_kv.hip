// Appends keys and values [tokens, kv_heads, head_dim] to a cache as they are, each rounded once to its type; Appended in
// include/kv_rows.h says where. A block takes a token, its threads the elements.
#include "include/kv_rows.h"
#include "include/per_head.h"

template <typename T>
__device__ static inline void append_kv(const float *k, const float *v, KvRows<T> cache, Appended to, uint32_t tokens,
                                        uint32_t kv_heads, uint32_t head_dim) {
    const uint64_t token = blockIdx.x;
    if (token >= tokens) return;
    const uint32_t sequence = to.sequence_of((uint32_t)token);
    const uint32_t row = to.row_of((uint32_t)token);
    if (!cache.has(sequence, row)) return;
    const uint64_t first = cache.offset(sequence, 0, row);
    for_each_per_head(kv_heads, head_dim, [&](uint64_t head, uint32_t i) {
        const uint64_t from = (token * kv_heads + head) * head_dim + i;
        const uint64_t at = first + head * cache.head_stride + i;
        cache.keys[at] = narrow<T>(k[from]);
        cache.values[at] = narrow<T>(v[from]);
    });
}

#define APPEND_KV(NAME, T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        NAME(const float *k, const float *v, T *keys, T *values, const uint32_t *block_table, const uint32_t *lengths, \
             uint64_t cache_block_stride, uint64_t cache_head_stride, uint32_t cache_row_len, uint32_t block_shift,    \
             uint32_t table_len, uint32_t capacity, uint32_t sequence, uint32_t first_row, uint32_t tokens,            \
             uint32_t kv_heads, uint32_t head_dim) {                                                                   \
        const KvRows<T> cache = {keys,          values,      block_table, cache_block_stride, cache_head_stride,       \
                                 cache_row_len, block_shift, table_len,   capacity};                                   \
        append_kv(k, v, cache, {lengths, sequence, first_row}, tokens, kv_heads, head_dim);                            \
    }

APPEND_KV(append_kv_f32, float)
APPEND_KV(append_kv_f16, f16_t)
APPEND_KV(append_kv_bf16, bf16_t)
#undef APPEND_KV
