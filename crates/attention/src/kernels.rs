//! The kernels of this crate, declared once: the arguments that a launch takes, what an image must look like, and the
//! images that ship. Appending to a cache is a kernel of `kernels-rope`.

use hsaco::{ImageSet, KernelArgs, KernelPointer};

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Images of `kernels/attention.hip`.
pub static ATTENTION: ImageSet =
    ImageSet { decl: AttentionArgs::DECL, images: hsaco::images_of(IMAGES, "attention") };

hsaco::kernel! {
    /// Arguments of `kernels/attention.hip`. A symbol is for a type of the cache. `attend` takes a block for each 16 rows
    /// (heads of a group times tokens) of each key and value head, `attend_split` one for each of their chunks of 256 keys.
    pub struct AttentionArgs: "attention" =>
        [attend_f32, attend_f16, attend_bf16, attend_split_f32, attend_split_f16, attend_split_bf16],
        variable "ATTENTION_HSACO", max_block 256 {
        /// `[tokens, kv_heads * group, head_dim]` f32.
        q: KernelPointer,
        /// `[kv_heads, capacity, cache_row_len]`.
        keys: KernelPointer,
        /// `[kv_heads, capacity, cache_row_len]`.
        values: KernelPointer,
        /// `[tokens, kv_heads * group, head_dim]` f32.
        out: KernelPointer,
        /// For `attend_split`: `[kv_heads, tiles of 16 rows, chunks, 16, 2 + cache_row_len]` f32.
        partials: KernelPointer,
        /// For `attend_split`: `[kv_heads, tiles of 16 rows]` u32, zero before and after.
        counters: KernelPointer,
        /// Elements from one head of the cache to its next.
        cache_head_stride: u64,
        /// Elements from one token of the cache to its next, a multiple of 8; those from `head_dim` on are zero.
        cache_row_len: u32,
        /// By which scores are multiplied.
        scale: f32,
        /// Tokens; at least 1.
        tokens: u32,
        /// Key and value heads; at least 1.
        kv_heads: u32,
        /// Query heads of each; at least 1.
        group: u32,
        /// Width of a head; at least 1, at most 256.
        head_dim: u32,
        /// Tokens of the cache before those of the launch.
        len: u32,
        /// For `attend_split`: chunks of the cache and the launch's tokens.
        chunks: u32,
    }
}
