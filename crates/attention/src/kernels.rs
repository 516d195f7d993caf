//! The kernels of this crate, declared once: the arguments that a launch takes, what an image must look like, and the
//! images that ship. Appending to a cache is a kernel of `kernels-rope`.

use hsaco::{ImageSet, KernelArgs, KernelPointer};

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Images of `kernels/attention.hip`.
pub static ATTENTION: ImageSet =
    ImageSet { decl: AttentionArgs::DECL, images: hsaco::images_of(IMAGES, "attention") };

/// Images of `kernels/attention_tiled.hip`.
pub static ATTENTION_TILED: ImageSet =
    ImageSet { decl: AttentionTiledArgs::DECL, images: hsaco::images_of(IMAGES, "attention_tiled") };

/// Images of `kernels/decode_attention.hip`.
pub static DECODE_ATTENTION: ImageSet =
    ImageSet { decl: DecodeAttentionArgs::DECL, images: hsaco::images_of(IMAGES, "decode_attention") };

/// All of them.
pub static ALL: [&ImageSet; 3] = [&ATTENTION, &ATTENTION_TILED, &DECODE_ATTENTION];

hsaco::kernel! {
    /// Arguments of `kernels/attention.hip`. A symbol is for a type of the cache. `attend` takes a block for each 16 rows
    /// (heads of a group times tokens) of each key and value head of each sequence, `attend_split` one for each of their spans,
    /// of 1024 keys or as `kernels/include/attention_waves.h` says.
    pub struct AttentionArgs: "attention" =>
        [attend_f32, attend_f16, attend_bf16, attend_split_f32, attend_split_f16, attend_split_bf16],
        variable "ATTENTION_HSACO", max_block 256 {
        /// `[sequences, tokens, kv_heads * group, head_dim]` f32.
        q: KernelPointer,
        /// `[blocks, kv_heads, tokens of a block, cache_row_len]`.
        keys: KernelPointer,
        /// `[blocks, kv_heads, tokens of a block, cache_row_len]`.
        values: KernelPointer,
        /// `[sequences, tokens, kv_heads * group, head_dim]` f32.
        out: KernelPointer,
        /// For `attend_split`: of each of `[sequences, kv_heads, tiles of 16 rows]` softmaxes `[16, spans, 2]` f32 and behind
        /// them sums `[spans, 16, cache_row_len]` f32.
        partials: KernelPointer,
        /// For `attend_split`: `[sequences, kv_heads, tiles of 16 rows]` u32, zero before and after.
        counters: KernelPointer,
        /// Blocks of the cache `[sequences of the cache, table_len]` u32, `u32::MAX` for none; null for a contiguous cache, in
        /// which a sequence has the block of its own number.
        block_table: KernelPointer,
        /// Tokens of each sequence before those of the launch, `[sequences]` u32; null for `len`.
        lengths: KernelPointer,
        /// Elements from one block of the cache to its next.
        cache_block_stride: u64,
        /// Elements from one head of a block to its next.
        cache_head_stride: u64,
        /// Elements from one token of a head to its next, a multiple of 8; those from `head_dim` on are zero.
        cache_row_len: u32,
        /// With a table, blocks hold `2^block_shift` tokens.
        block_shift: u32,
        /// Blocks of a sequence in the table.
        table_len: u32,
        /// Tokens that a sequence has room for; where there are more, the result is NaN.
        capacity: u32,
        /// By which scores are multiplied.
        scale: f32,
        /// The first sequence.
        sequence: u32,
        /// Tokens of a sequence; at least 1.
        tokens: u32,
        /// Key and value heads; at least 1.
        kv_heads: u32,
        /// Query heads of each; at least 1.
        group: u32,
        /// Width of a head; at least 1, at most 256.
        head_dim: u32,
        /// Tokens of the sequence before those of the launch.
        len: u32,
        /// Tokens that every token sees, at most those of the cache and the launch.
        prefix: u32,
        /// For `attend_split`: spans, at least those of the tokens.
        spans: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/attention_tiled.hip`, for passes of many tokens of one sequence. A symbol is for a type of the
    /// cache. The launch takes a block for each 64 rows (heads of a group times tokens) of each key and value head.
    pub struct AttentionTiledArgs: "attention_tiled" => [attend_tiled_f16, attend_tiled_bf16],
        variable "ATTENTION_TILED_HSACO", max_block 256 {
        /// `[tokens, kv_heads * group, head_dim]` f32.
        q: KernelPointer,
        /// `[blocks, kv_heads, tokens of a block, cache_row_len]`.
        keys: KernelPointer,
        /// `[blocks, kv_heads, tokens of a block, cache_row_len]`.
        values: KernelPointer,
        /// `[tokens, kv_heads * group, head_dim]` f32.
        out: KernelPointer,
        /// As in [`AttentionArgs`].
        block_table: KernelPointer,
        /// Elements from one block of the cache to its next.
        cache_block_stride: u64,
        /// Elements from one head of a block to its next.
        cache_head_stride: u64,
        /// Elements from one token of a head to its next, a multiple of 8; those from `head_dim` on are zero.
        cache_row_len: u32,
        /// With a table, blocks hold `2^block_shift` tokens.
        block_shift: u32,
        /// Blocks of a sequence in the table.
        table_len: u32,
        /// Tokens that a sequence has room for; where there are more, the result is NaN.
        capacity: u32,
        /// By which scores are multiplied.
        scale: f32,
        /// The sequence.
        sequence: u32,
        /// Tokens of the launch; at least 1.
        tokens: u32,
        /// Key and value heads; at least 1.
        kv_heads: u32,
        /// Query heads of each; at least 1.
        group: u32,
        /// Width of a head; at least 1, at most 128.
        head_dim: u32,
        /// Tokens of the sequence before those of the launch.
        len: u32,
        /// Tokens that every token sees, at most those of the cache and the launch.
        prefix: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/decode_attention.hip`. A symbol is for a type of the cache. The launch takes a block for each 16
    /// query heads of each key and value head of each sequence and each span, as `attend_split` has them.
    pub struct DecodeAttentionArgs: "decode_attention" =>
        [decode_attention_f32, decode_attention_f16, decode_attention_bf16],
        variable "DECODE_ATTENTION_HSACO", max_block 256 {
        /// `[sequences, kv_heads * group, head_dim]` f32, not rotated.
        q: KernelPointer,
        /// `[sequences, kv_heads, head_dim]` f32, not rotated.
        k: KernelPointer,
        /// `[sequences, kv_heads, head_dim]` f32.
        v: KernelPointer,
        /// `[blocks, kv_heads, tokens of a block, row_len]`, `row_len` the next multiple of 8 of `head_dim`; elements from
        /// `head_dim` on are zero.
        keys: KernelPointer,
        /// As the keys.
        values: KernelPointer,
        /// `[sequences, kv_heads * group, head_dim]` f32.
        out: KernelPointer,
        /// As in [`AttentionArgs`], for tiles of 16 heads.
        partials: KernelPointer,
        /// `[sequences, kv_heads, tiles of 16 heads]` u32, zero before and after.
        counters: KernelPointer,
        /// As in [`AttentionArgs`].
        block_table: KernelPointer,
        /// Tokens of each sequence before the new one, `[sequences]` u32.
        lengths: KernelPointer,
        /// Positions of the new tokens: `[axes, sequences]` u32.
        positions: KernelPointer,
        /// `[table_length, rotary_dim / 2]` f32.
        cos: KernelPointer,
        /// `[table_length, rotary_dim / 2]` f32.
        sin: KernelPointer,
        /// The axis of each pair: `[rotary_dim / 2]` u32.
        pair_axis: KernelPointer,
        /// Weights of the norm of each query head `[head_dim]` f32, or null where heads are not normed.
        q_norm: KernelPointer,
        /// Weights of the norm of each key head `[head_dim]` f32, or null as `q_norm`.
        k_norm: KernelPointer,
        /// With a table, blocks hold `2^block_shift` tokens.
        block_shift: u32,
        /// Tokens that a sequence has room for; a full one gets nothing appended and NaN as its result.
        capacity: u32,
        /// Elements from one sequence's queries, keys and values to the next's, or 0 where each lie without gaps.
        stride: u32,
        /// By which scores are multiplied.
        scale: f32,
        /// Added to the mean of squares by the norm.
        eps: f32,
        /// Sequences.
        sequences: u32,
        /// Key and value heads; at least 1.
        kv_heads: u32,
        /// Query heads of each; at least 1.
        group: u32,
        /// Width of a head; at least 1, at most 256.
        head_dim: u32,
        /// Rotated elements of a head; even, at least 2.
        rotary_dim: u32,
        /// Elements from the first of a pair to its second; at least 1.
        pair_span: u32,
        /// Positions of a token.
        axes: u32,
        /// Positions that the table serves; one beyond gives NaN and appends nothing.
        table_length: u32,
        /// Spans that a sequence has room for.
        spans: u32,
    }
}
