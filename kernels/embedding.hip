// Gathers rows of a table [vocab, hidden], widened to f32: out[t] = table[ids[t]]. An id outside the table gives a row of
// NaN, since a kernel cannot refuse. Blocks take tokens along y and columns along x in turn.
#include "include/gpu.h"

template <typename T>
__device__ static inline void embed(const T *table, const uint32_t *ids, float *out, uint64_t tokens, uint64_t vocab,
                                    uint64_t hidden) {
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t token = blockIdx.y; token < tokens; token += gridDim.y) {
        const uint64_t id = ids[token];
        const T *row = table + id * hidden;
        float *out_row = out + token * hidden;
        for (uint64_t column = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; column < hidden; column += step) {
            out_row[column] = id < vocab ? widen(row[column]) : __builtin_nanf("");
        }
    }
}

#define EMBED(NAME, T)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) NAME(const T *table, const uint32_t *ids, float *out,            \
                                                           uint64_t tokens, uint64_t vocab, uint64_t hidden) {         \
        embed(table, ids, out, tokens, vocab, hidden);                                                                 \
    }

EMBED(embed_f32, float)
EMBED(embed_f16, f16_t)
EMBED(embed_bf16, bf16_t)
#undef EMBED
