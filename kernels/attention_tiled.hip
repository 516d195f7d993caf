// Attention as in attention.hip, of 16 tokens and more over a cache of f16 or bf16: a block of 256 threads takes a tile of 64
// rows. Where there are matrix units they multiply what is split into bf16, see include/attention_tile.h; elsewhere a tile is
// attended as four of attention.hip.
#include "include/attention_block.h"
#include "include/attention_tile.h"

namespace attention {

#if defined(GPU_MATRIX)

template <typename T>
__device__ static inline void attend_tile(const Call<T> &call, Tile tile, uint32_t len, bool has_room) {
    __shared__ TileShared<T> shared;
    TileBlock<T> block(call, shared, tile, len);
    if (has_room) {
        block.attend();
    } else {
        block.write_nan();
    }
}

#else

constexpr uint32_t TILE_ROWS = 64;

template <typename T>
__device__ static inline void attend_tile(const Call<T> &call, Tile tile, uint32_t len, bool has_room) {
    __shared__ Shared shared;
    const NothingFresh<T> nothing;
    const uint32_t rows = at_most(call.tokens * call.group - tile.first_row, TILE_ROWS);
    GPU_UNROLL(1)
    for (uint32_t row = 0; row < rows; row += ROWS) {
        // The tile before may still be in use.
        __syncthreads();
        Block<T, NothingFresh<T>> block(call, shared, nothing, {0, tile.kv_head, tile.first_row + row, 0}, len);
        if (has_room) {
            block.attend();
        } else {
            block.write_nan();
        }
    }
}

#endif

template <typename T>
__device__ static inline void attend_tiled(const Call<T> &call, uint32_t len) {
    const uint32_t tiles = (call.tokens * call.group + TILE_ROWS - 1) / TILE_ROWS;
    const uint32_t last = len + call.tokens - 1;
    const bool has_room = last >= len && call.cache.has(call.sequence, last);
    attend_tile(call, tile_of<TILE_ROWS>(blockIdx.x, call.kv_heads, tiles), len, has_room);
}

}  // namespace attention

#define ATTEND_TILED(NAME, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(attention::THREADS)                                                   \
        NAME(const float *q, const T *keys, const T *values, float *out, const uint32_t *block_table,                  \
             uint64_t cache_block_stride, uint64_t cache_head_stride, uint32_t cache_row_len, uint32_t block_shift,    \
             uint32_t table_len, uint32_t capacity, float scale, uint32_t sequence, uint32_t tokens,                   \
             uint32_t kv_heads, uint32_t group, uint32_t head_dim, uint32_t len, uint32_t prefix) {                    \
        const KvRows<const T> cache = {per_thread(keys),                                                               \
                                       per_thread(values),                                                             \
                                       per_thread(block_table),                                                        \
                                       cache_block_stride,                                                             \
                                       cache_head_stride,                                                              \
                                       cache_row_len,                                                                  \
                                       block_shift,                                                                    \
                                       table_len,                                                                      \
                                       capacity};                                                                      \
        attention::attend_tiled<T>({per_thread(q), cache, per_thread(out), nullptr, nullptr, scale, sequence, tokens,  \
                                    kv_heads, group, head_dim, prefix, 0},                                             \
                                   len);                                                                               \
    }

ATTEND_TILED(attend_tiled_f16, f16_t)
ATTEND_TILED(attend_tiled_bf16, bf16_t)
#undef ATTEND_TILED
