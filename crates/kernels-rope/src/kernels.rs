//! The kernels of this crate, declared once: the arguments that a launch takes, what an image must look like, and the
//! images that ship. The formula is in `kernels/include/rotate.h`.

use hsaco::{ImageSet, KernelArgs, KernelPointer};

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Images of `kernels/rope.hip`.
pub static ROPE: ImageSet = ImageSet { decl: RopeArgs::DECL, images: hsaco::images_of(IMAGES, "rope") };

/// Images of `kernels/position_embeddings.hip`.
pub static POSITION_EMBEDDINGS: ImageSet =
    ImageSet { decl: PositionEmbeddingsArgs::DECL, images: hsaco::images_of(IMAGES, "position_embeddings") };

/// Images of `kernels/append_kv.hip`.
pub static APPEND_KV: ImageSet =
    ImageSet { decl: AppendKvArgs::DECL, images: hsaco::images_of(IMAGES, "append_kv") };

/// All of them.
pub static ALL: [&ImageSet; 3] = [&ROPE, &POSITION_EMBEDDINGS, &APPEND_KV];

hsaco::kernel! {
    /// Arguments of `kernels/rope.hip`, which rotates one tensor in place. Strides are in elements.
    pub struct RopeArgs: "rope" => [rope_f32, rope_f16, rope_bf16],
        variable "ROPE_HSACO", max_block 256 {
        /// Heads `[tokens, heads, head_dim]`, of the symbol's data type.
        x: KernelPointer,
        /// `[length, rotary_dim / 2]` f32.
        cos: KernelPointer,
        /// `[length, rotary_dim / 2]` f32.
        sin: KernelPointer,
        /// Rows of `cos` and `sin`: `[axes, tokens]` u32.
        positions: KernelPointer,
        /// The axis of each pair: `[rotary_dim / 2]` u32.
        pair_axis: KernelPointer,
        /// From a head of one token to the same head of the next.
        token_stride: u64,
        /// From one head of a token to its next.
        head_stride: u64,
        /// Tokens.
        tokens: u32,
        /// Heads of a token.
        heads: u32,
        /// Rotated elements of a head; even, at least 2.
        rotary_dim: u32,
        /// Elements from the first of a pair to its second; at least 1.
        pair_span: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/position_embeddings.hip`, which rotates queries and keys in place in one launch and, with a
    /// cache, appends keys and values to it. The symbols name the type of queries, keys and values, and that of the cache
    /// where it is another. Strides are in elements.
    pub struct PositionEmbeddingsArgs: "position_embeddings" =>
        [
            position_embeddings_f32,
            position_embeddings_f16,
            position_embeddings_bf16,
            position_embeddings_f32_f16,
            position_embeddings_f32_bf16,
        ],
        variable "POSITION_EMBEDDINGS_HSACO", max_block 256 {
        /// Queries `[tokens, q_heads, head_dim]`.
        q: KernelPointer,
        /// Keys `[tokens, kv_heads, head_dim]`.
        k: KernelPointer,
        /// Values `[tokens, kv_heads, head_dim]` without gaps, or null without a cache.
        v: KernelPointer,
        /// The cache's keys `[blocks, kv_heads, tokens of a block, cache_row_len]`, or null.
        keys: KernelPointer,
        /// The cache's values, as its keys, or null.
        values: KernelPointer,
        /// Blocks of the cache `[sequences, table_len]` u32, `u32::MAX` for none; null for a contiguous cache, in which a
        /// sequence has the block of its own number.
        block_table: KernelPointer,
        /// Tokens of each sequence `[sequences]` u32, where token `t` is the next one of sequence `t`; null where all tokens
        /// are of `sequence`, from `first_row` on.
        lengths: KernelPointer,
        /// `[length, rotary_dim / 2]` f32.
        cos: KernelPointer,
        /// `[length, rotary_dim / 2]` f32.
        sin: KernelPointer,
        /// Rows of `cos` and `sin`: `[axes, tokens]` u32.
        positions: KernelPointer,
        /// The axis of each pair: `[rotary_dim / 2]` u32.
        pair_axis: KernelPointer,
        /// From a query head of one token to the same head of the next.
        q_token_stride: u64,
        /// From one query head of a token to its next.
        q_head_stride: u64,
        /// From a key head of one token to the same head of the next.
        k_token_stride: u64,
        /// From one key head of a token to its next.
        k_head_stride: u64,
        /// From one block of the cache to its next.
        cache_block_stride: u64,
        /// From one head of a block to its next.
        cache_head_stride: u64,
        /// From one token of a head to its next; at least `head_dim`.
        cache_row_len: u32,
        /// With a table, blocks hold `2^block_shift` tokens.
        block_shift: u32,
        /// Blocks of a sequence in the table.
        table_len: u32,
        /// Tokens that a sequence has room for; those beyond are not appended.
        capacity: u32,
        /// The sequence of the tokens.
        sequence: u32,
        /// The token of the sequence that the first token becomes.
        first_row: u32,
        /// Tokens.
        tokens: u32,
        /// Query heads of a token.
        q_heads: u32,
        /// Key heads of a token.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Rotated elements of a head; even, at least 2.
        rotary_dim: u32,
        /// Elements from the first of a pair to its second; at least 1.
        pair_span: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/append_kv.hip`, which appends f32 keys and values to a cache of the symbol's data type.
    /// Strides are in elements.
    pub struct AppendKvArgs: "append_kv" => [append_kv_f32, append_kv_f16, append_kv_bf16],
        variable "APPEND_KV_HSACO", max_block 256 {
        /// Keys `[tokens, kv_heads, head_dim]`.
        k: KernelPointer,
        /// Values `[tokens, kv_heads, head_dim]`.
        v: KernelPointer,
        /// The cache's keys `[blocks, kv_heads, tokens of a block, cache_row_len]`.
        keys: KernelPointer,
        /// The cache's values, as its keys.
        values: KernelPointer,
        /// Blocks of the cache `[sequences, table_len]` u32, `u32::MAX` for none; null for a contiguous cache, in which a
        /// sequence has the block of its own number.
        block_table: KernelPointer,
        /// Tokens of each sequence `[sequences]` u32, where token `t` is the next one of sequence `t`; null where all tokens
        /// are of `sequence`, from `first_row` on.
        lengths: KernelPointer,
        /// From one block of the cache to its next.
        cache_block_stride: u64,
        /// From one head of a block to its next.
        cache_head_stride: u64,
        /// From one token of a head to its next; at least `head_dim`.
        cache_row_len: u32,
        /// With a table, blocks hold `2^block_shift` tokens.
        block_shift: u32,
        /// Blocks of a sequence in the table.
        table_len: u32,
        /// Tokens that a sequence has room for; those beyond are not appended.
        capacity: u32,
        /// The sequence of the tokens.
        sequence: u32,
        /// The token of the sequence that the first token becomes.
        first_row: u32,
        /// Tokens.
        tokens: u32,
        /// Key and value heads of a token.
        kv_heads: u32,
        /// Width of a head; at least 1.
        head_dim: u32,
    }
}
