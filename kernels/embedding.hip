// Gathers rows of a table [vocab, hidden], widened to f32: out[t] = table[ids[t]]. An id outside the table gives a row of
// NaN, since a kernel cannot refuse. Blocks take tokens along y and columns along x in turn.
// Rows of blocks are unpacked by pieces.
#include "include/blocks.h"
#include "include/quads.h"

template <typename T>
__device__ static inline void embed(const T *table, const uint32_t *ids, float *out, uint64_t tokens, uint64_t vocab,
                                    uint64_t hidden) {
    const bool in_quads = hidden % QUAD == 0 && has_quads(table) && has_quads(out);
    const uint64_t step = threads_of_launch();
    for (uint64_t token = blockIdx.y; token < tokens; token += gridDim.y) {
        const uint64_t id = ids[token];
        const bool is_there = id < vocab;
        const T *row = table + id * hidden;
        float *out_row = out + token * hidden;
        if (in_quads) {
            for (uint64_t column = place_in_launch() * QUAD; column < hidden; column += step * QUAD) {
                float values[QUAD];
                for (float &value : values) value = __builtin_nanf("");
                if (is_there) load_quad(row + column, values);
                store_quad(values, out_row + column);
            }
        } else {
            for (uint64_t column = place_in_launch(); column < hidden; column += step) {
                out_row[column] = is_there ? widen(row[column]) : __builtin_nanf("");
            }
        }
    }
}

template <typename B>
__device__ static inline void embed_blocks(const uint8_t *table, const uint32_t *ids, float *out, uint64_t tokens,
                                           uint64_t vocab, uint64_t hidden) {
    const uint64_t step = threads_of_launch();
    for (uint64_t token = blockIdx.y; token < tokens; token += gridDim.y) {
        const uint64_t id = ids[token];
        const uint8_t *row = table + id * (hidden / B::LEN * B::BYTES);
        float *out_row = out + token * hidden;
        for (uint64_t piece = place_in_launch(); piece < hidden / PIECE; piece += step) {
            const uint64_t block = piece / blocks::PIECES<B>;
            const uint32_t at = (uint32_t)(piece % blocks::PIECES<B>);
            const uint8_t *from = row + block * B::BYTES;
            const uint32_t lead = (uint32_t)((uint64_t)from % 4);
            B unpacked = {};
            if (id < vocab) unpacked.load(from - lead, lead, at);
            for (uint32_t part = 0; part < PARTS; ++part) {
                float values[CHUNK];
                unpacked.widen(part, values);
                float *to = out_row + block * B::LEN + B::place(at, part);
                for (uint32_t i = 0; i < CHUNK; ++i) to[i] = id < vocab ? values[i] : __builtin_nanf("");
            }
        }
    }
}

#define EMBED(NAME, T, BODY)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256) NAME(const T *table, const uint32_t *ids, float *out,            \
                                                           uint64_t tokens, uint64_t vocab, uint64_t hidden) {         \
        BODY(table, ids, out, tokens, vocab, hidden);                                                                  \
    }

EMBED(embed_f32, float, embed)
EMBED(embed_f16, f16_t, embed)
EMBED(embed_bf16, bf16_t, embed)
EMBED(embed_q8_0, uint8_t, embed_blocks<blocks::Q8_0>)
EMBED(embed_q4_0, uint8_t, embed_blocks<blocks::Q4_0>)
EMBED(embed_q5_0, uint8_t, embed_blocks<blocks::Q5_0>)
EMBED(embed_q5_1, uint8_t, embed_blocks<blocks::Q5_1>)
EMBED(embed_q4_k, uint8_t, embed_blocks<blocks::Q4_K>)
EMBED(embed_q5_k, uint8_t, embed_blocks<blocks::Q5_K>)
EMBED(embed_q6_k, uint8_t, embed_blocks<blocks::Q6_K>)
#undef EMBED
