// Where the keys and the values of one layer of a cache lie: [blocks, kv_heads, tokens of a block, row_len], a row [head_dim]
// and zeros for each token of each head. A sequence of a contiguous cache is one block; a paged cache has a table of the
// blocks of each sequence. The host proves that heads and blocks lie inside.
#pragma once

#include "gpu.h"

// What the table of a paged cache holds where a sequence has no block.
constexpr uint32_t NO_BLOCK = ~0u;

template <typename T>
struct KvRows {
    T *keys;
    T *values;
    // Blocks [sequences, table_len] of 2^block_shift tokens, or null: then each sequence has the block of its own number.
    const uint32_t *table;
    // Elements from one block to the next, and from one head of a block to its next.
    uint64_t block_stride;
    uint64_t head_stride;
    uint32_t row_len;
    uint32_t block_shift;
    uint32_t table_len;
    // Tokens that a sequence has room for.
    uint32_t capacity;

    // The block of a token, which is counted from the start of its sequence and is below the capacity.
    __device__ uint32_t block(uint32_t sequence, uint32_t token) const {
        return table ? table[(uint64_t)sequence * table_len + (token >> block_shift)] : sequence;
    }

    // The token's place in its block.
    __device__ uint32_t place(uint32_t token) const { return table ? token & ((1u << block_shift) - 1) : token; }

    // Whether there is a row for a token. Blocks of a sequence are given without gaps, so those before it have one too.
    __device__ bool has(uint32_t sequence, uint32_t token) const {
        return token < capacity && block(sequence, token) != NO_BLOCK;
    }

    // Elements before a token's row of a head.
    __device__ uint64_t offset(uint32_t sequence, uint64_t head, uint32_t token) const {
        return block(sequence, token) * block_stride + head * head_stride + (uint64_t)place(token) * row_len;
    }
};

// Where the tokens of a launch go: token t becomes token first_row + t of `sequence`, or, where `lengths` are given, the
// next token of sequence t, which has lengths[t] tokens. A token that there is no room for goes nowhere.
struct Appended {
    const uint32_t *lengths;
    uint32_t sequence;
    uint32_t first_row;

    __device__ uint32_t sequence_of(uint32_t token) const { return lengths ? token : sequence; }
    __device__ uint32_t row_of(uint32_t token) const { return lengths ? lengths[token] : first_row + token; }
};
