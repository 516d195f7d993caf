// Attention of rotated queries over a cache of keys and values (Vaswani et al.) with a running softmax (Milakov and
// Gimelshein): out = sum softmax(scale q . k) v. The token t of the launch sees the tokens 0 ..= len + t of its
// sequence, and at least the first `prefix`. The order of all sums is told in include/attention_block.h,
// and in include/attention_waves.h where that serves.
//
// The query heads of one key and value head, with all their tokens, are rows: row r is head r % group of token r / group.
// A block of 256 threads takes a tile of 16 rows, so that keys and values are read once for all of them: `attend` one span
// after another, `attend_split` one span alone. With `lengths`, the tokens before the launch's are counted there, one number
// for each sequence, so that the same launch serves any length: a block for each span that the cache has room for.
#include "include/attention_split.h"

namespace attention {

template <bool SPLIT, typename T>
__device__ static inline void attend(const Call<T> &call, const uint32_t *lengths, uint32_t first_len) {
    __shared__ Shared shared;
    const uint32_t tiles = (call.tokens * call.group + ROWS - 1) / ROWS;
    const uint32_t span = SPLIT ? blockIdx.x % call.spans : 0;
    const Tile tile = tile_of(SPLIT ? blockIdx.x / call.spans : blockIdx.x, call.kv_heads, tiles);
    const uint32_t len = lengths ? lengths[tile.sequence] : first_len;
    const NothingFresh<T> nothing;
    Split<T, NothingFresh<T>> block(call, shared, nothing, tile, len);
    const uint32_t last = len + call.tokens - 1;
    if (last < len || !call.cache.has(call.sequence + tile.sequence, last)) {
        if (span == 0) block.write_nan();
    } else if constexpr (SPLIT) {
        block.attend_split(span);
    } else {
        block.attend();
    }
}

}  // namespace attention

#define ATTEND(NAME, SPLIT, T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(attention::THREADS)                                                   \
        NAME(const float *q, const T *keys, const T *values, float *out, float *partials, uint32_t *counters,          \
             const uint32_t *block_table, const uint32_t *lengths, uint64_t cache_block_stride,                        \
             uint64_t cache_head_stride, uint32_t cache_row_len, uint32_t block_shift, uint32_t table_len,             \
             uint32_t capacity, float scale, uint32_t sequence, uint32_t tokens, uint32_t kv_heads, uint32_t group,    \
             uint32_t head_dim, uint32_t len, uint32_t prefix, uint32_t spans) {                                       \
        const KvRows<const T> cache = {keys,          values,      block_table, cache_block_stride, cache_head_stride, \
                                       cache_row_len, block_shift, table_len,   capacity};                             \
        attention::attend<SPLIT, T>({q, cache, out, partials, counters, scale, sequence, tokens, kv_heads, group,      \
                                     head_dim, prefix, spans},                                                         \
                                    lengths, len);                                                                     \
    }

ATTEND(attend_f32, false, float)
ATTEND(attend_f16, false, f16_t)
ATTEND(attend_bf16, false, bf16_t)
ATTEND(attend_split_f32, true, float)
ATTEND(attend_split_f16, true, f16_t)
ATTEND(attend_split_bf16, true, bf16_t)
#undef ATTEND
