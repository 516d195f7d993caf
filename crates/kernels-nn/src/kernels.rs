//! The kernels of this crate, declared once: the arguments that a launch takes, what an image must look like, and the
//! images that ship. Activations are f32, row-major without gaps; counts are in elements.

use hsaco::{ImageSet, KernelArgs, KernelPointer};

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Images of `kernels/embedding.hip`.
pub static EMBEDDING: ImageSet = images_of::<EmbeddingArgs>();

/// Images of `kernels/rms_norm.hip`.
pub static RMS_NORM: ImageSet = images_of::<RmsNormArgs>();

/// Images of `kernels/add_rms_norm.hip`.
pub static ADD_RMS_NORM: ImageSet = images_of::<AddRmsNormArgs>();

/// Images of `kernels/swiglu.hip`.
pub static SWIGLU: ImageSet = images_of::<SwigluArgs>();

/// Images of `kernels/add.hip`.
pub static ADD: ImageSet = images_of::<AddArgs>();

/// Images of `kernels/linear.hip`.
pub static LINEAR: ImageSet = images_of::<LinearArgs>();

/// Images of `kernels/linear_blocks.hip`.
pub static LINEAR_BLOCKS: ImageSet = images_of::<LinearBlocksArgs>();

/// Images of `kernels/linear_tiled.hip`.
pub static LINEAR_TILED: ImageSet = images_of::<LinearTiledArgs>();

/// Images of `kernels/norm_linear.hip`.
pub static NORM_LINEAR: ImageSet = images_of::<NormLinearArgs>();

/// Images of `kernels/argmax.hip`.
pub static ARGMAX: ImageSet = images_of::<ArgmaxArgs>();

/// Images of `kernels/sample.hip`.
pub static SAMPLE: ImageSet = images_of::<SampleArgs>();

/// All of them.
pub static ALL: [&ImageSet; 11] = [
    &EMBEDDING,
    &RMS_NORM,
    &ADD_RMS_NORM,
    &SWIGLU,
    &ADD,
    &LINEAR,
    &LINEAR_BLOCKS,
    &LINEAR_TILED,
    &NORM_LINEAR,
    &ARGMAX,
    &SAMPLE,
];

const fn images_of<A: KernelArgs>() -> ImageSet {
    ImageSet { decl: A::DECL, images: hsaco::images_of(IMAGES, A::DECL.family) }
}

hsaco::kernel! {
    /// Arguments of `kernels/embedding.hip`, which gathers rows of a table.
    pub struct EmbeddingArgs: "embedding" => [
        embed_f32, embed_f16, embed_bf16,
        embed_q8_0, embed_q4_0, embed_q5_0, embed_q5_1, embed_q4_k, embed_q5_k, embed_q6_k,
    ], variable "EMBEDDING_HSACO", max_block 256 {
        /// `[vocab, hidden]`, of the symbol's type; blocks are whole in each row.
        table: KernelPointer,
        /// `[tokens]` u32.
        ids: KernelPointer,
        /// `[tokens, hidden]` f32.
        out: KernelPointer,
        /// Tokens.
        tokens: u64,
        /// Rows of the table.
        vocab: u64,
        /// Width of a row.
        hidden: u64,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/rms_norm.hip`, which norms rows.
    pub struct RmsNormArgs: "rms_norm" => [rms_norm_f32], variable "RMS_NORM_HSACO", max_block 256 {
        /// `[rows, width]`.
        x: KernelPointer,
        /// `[width]` f32.
        weight: KernelPointer,
        /// `[rows, width]`; may be `x`.
        out: KernelPointer,
        /// Rows.
        rows: u64,
        /// Width of a row.
        width: u64,
        /// `1 / width`, rounded once.
        inverse_width: f64,
        /// Added to the mean square.
        eps: f32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/add_rms_norm.hip`, which adds a branch to rows and norms the sum.
    pub struct AddRmsNormArgs: "add_rms_norm" => [add_rms_norm_f32],
        variable "ADD_RMS_NORM_HSACO", max_block 256 {
        /// `[rows, width]`, read and written.
        x: KernelPointer,
        /// `[rows, width]`.
        branch: KernelPointer,
        /// `[width]` f32, or null: then the branch is added as it is.
        branch_weight: KernelPointer,
        /// `[width]` f32.
        weight: KernelPointer,
        /// `[rows, width]`.
        out: KernelPointer,
        /// Rows.
        rows: u64,
        /// Width of a row.
        width: u64,
        /// `1 / width`, rounded once.
        inverse_width: f64,
        /// Added to the branch's mean square.
        branch_eps: f32,
        /// Added to the sum's mean square.
        eps: f32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/swiglu.hip`, which gates rows.
    pub struct SwigluArgs: "swiglu" => [swiglu_f32], variable "SWIGLU_HSACO", max_block 256 {
        /// `[tokens, 2 * ff]`, rows `[gate; up]`.
        gate_up: KernelPointer,
        /// `[tokens, ff]`.
        out: KernelPointer,
        /// Tokens.
        tokens: u64,
        /// Width of an output row.
        ff: u64,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/add.hip`, which adds in place. The elements are of the symbol's type.
    pub struct AddArgs: "add" => [add_f32, add_u32], variable "ADD_HSACO", max_block 256 {
        /// `[len]`, read and written.
        x: KernelPointer,
        /// `[len]`.
        y: KernelPointer,
        /// Elements.
        len: u64,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/linear.hip`, which multiplies few rows with a matrix. The number that ends a symbol is how
    /// many tokens share a pass over the weight, whose rows and those of `x` are then a multiple of 8 elements wide and
    /// start aligned to 16 bytes. A block has exactly 256 threads.
    pub struct LinearArgs: "linear" => [
        linear_f32_any, linear_f32_1, linear_f32_4, linear_f32_8,
        linear_f16_any, linear_f16_1, linear_f16_4, linear_f16_8,
        linear_bf16_any, linear_bf16_1, linear_bf16_4, linear_bf16_8,
    ], variable "LINEAR_HSACO", max_block 256 {
        /// `[out_features, in_features]`, of the symbol's data type.
        weight: KernelPointer,
        /// `[tokens, in_features]`.
        x: KernelPointer,
        /// `[out_features]` f32, or null.
        bias: KernelPointer,
        /// `[tokens, out_features]`.
        out: KernelPointer,
        /// Tokens; at least 1.
        tokens: u64,
        /// Width of a row of `x`; at least 1.
        in_features: u64,
        /// Width of a row of `out`; at least 1.
        out_features: u64,
        /// Parts that the elements of a row are summed in: 1 or 8.
        slices: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/linear_blocks.hip`, which multiplies rows with a matrix of quantised blocks. The number that ends a
    /// symbol is how many tokens share a pass over the weight, at most. A block has exactly 256 threads.
    pub struct LinearBlocksArgs: "linear_blocks" => [
        linear_q8_0_1, linear_q8_0_8,
        linear_q4_0_1, linear_q4_0_8,
        linear_q5_0_1, linear_q5_0_8,
        linear_q5_1_1, linear_q5_1_8,
        linear_q4_k_1, linear_q4_k_8,
        linear_q5_k_1, linear_q5_k_8,
        linear_q6_k_1, linear_q6_k_8,
    ], variable "LINEAR_BLOCKS_HSACO", max_block 256 {
        /// `[out_features, in_features]` of the symbol's format, whole in each row; aligned to 16 bytes.
        weight: KernelPointer,
        /// `[tokens, in_features]`.
        x: KernelPointer,
        /// `[out_features]` f32, or null.
        bias: KernelPointer,
        /// `[tokens, out_features]`.
        out: KernelPointer,
        /// Tokens; at least 1.
        tokens: u64,
        /// Width of a row of `x`; at least 1, and less than `2^25`.
        in_features: u64,
        /// Width of a row of `out`; at least 1.
        out_features: u64,
        /// Parts that the elements of a row are summed in: 1 or 4.
        slices: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/linear_tiled.hip`, which multiplies many rows with a matrix. A block has exactly 256 threads.
    pub struct LinearTiledArgs: "linear_tiled" => [linear_f32_tiled, linear_f16_tiled, linear_bf16_tiled],
        variable "LINEAR_TILED_HSACO", max_block 256 {
        /// `[out_features, in_features]`, of the symbol's data type.
        weight: KernelPointer,
        /// `[tokens, in_features]`.
        x: KernelPointer,
        /// `[out_features]` f32, or null.
        bias: KernelPointer,
        /// `[tokens, out_features]`.
        out: KernelPointer,
        /// Tokens; at least 1.
        tokens: u64,
        /// Width of a row of `x`; at least 1.
        in_features: u64,
        /// Width of a row of `out`; at least 1.
        out_features: u64,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/norm_linear.hip`, which norms few rows and multiplies them with up to three matrices. Of
    /// `norm_swiglu` symbols, and of blocks where `gated` is 1, a matrix holds `out_features` gates, then as many rows that they
    /// gate. Where a symbol for floats does not end in `any`, everything that is read but biases starts aligned to 16 bytes, rows are a multiple of 8
    /// elements wide, and no matrix has less than 16 of them. Matrices of blocks start aligned to 16 bytes and hold whole
    /// blocks in each row. A block has exactly 256 threads, and there is one along x for each token.
    pub struct NormLinearArgs: "norm_linear" => [
        norm_linear_f32_any, norm_linear_f32, norm_linear_f16_any, norm_linear_f16,
        norm_linear_bf16_any, norm_linear_bf16,
        norm_swiglu_f32_any, norm_swiglu_f32, norm_swiglu_f16_any, norm_swiglu_f16,
        norm_swiglu_bf16_any, norm_swiglu_bf16,
        norm_linear_q8_0, norm_linear_q4_0, norm_linear_q5_0, norm_linear_q5_1,
        norm_linear_q4_k, norm_linear_q5_k, norm_linear_q6_k,
    ], variable "NORM_LINEAR_HSACO", max_block 256 {
        /// `[tokens, in_features]`.
        x: KernelPointer,
        /// `[tokens, in_features]`, added to `x` first, or null.
        branch: KernelPointer,
        /// `[in_features]` f32, which norms the branch before, or null.
        branch_weight: KernelPointer,
        /// `[tokens, in_features]`: where `x + branch` goes, or null.
        sum: KernelPointer,
        /// `[in_features]` f32.
        norm_weight: KernelPointer,
        /// `[out_features_1, in_features]`, of the symbol's type.
        weight_1: KernelPointer,
        /// f32, for each row of the weight, or null.
        bias_1: KernelPointer,
        /// `[tokens, out_features_1]`.
        out_1: KernelPointer,
        /// Width of a row of `out_1`.
        out_features_1: u64,
        /// As `weight_1`.
        weight_2: KernelPointer,
        /// As `bias_1`.
        bias_2: KernelPointer,
        /// `[tokens, out_features_2]`.
        out_2: KernelPointer,
        /// Width of a row of `out_2`; 0 where there is no second layer.
        out_features_2: u64,
        /// As `weight_1`.
        weight_3: KernelPointer,
        /// As `bias_1`.
        bias_3: KernelPointer,
        /// `[tokens, out_features_3]`.
        out_3: KernelPointer,
        /// Width of a row of `out_3`; 0 where there is no third layer.
        out_features_3: u64,
        /// `1 / in_features`, rounded once.
        inverse_width: f64,
        /// Width of a row of `x`; at least 1, and less than `2^26`, of blocks less than `2^25`.
        in_features: u32,
        /// Added to the branch's mean square.
        branch_eps: f32,
        /// Added to the mean square.
        eps: f32,
        /// 1 where half the rows of the matrices are gates, else 0; symbols for floats tell it by themselves.
        gated: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/argmax.hip`, which finds the first maximum of rows. A block has exactly 1024 threads.
    pub struct ArgmaxArgs: "argmax" => [argmax_f32], variable "ARGMAX_HSACO", max_block 1024 {
        /// `[rows, width]`.
        logits: KernelPointer,
        /// `[rows]` u32.
        tokens: KernelPointer,
        /// Rows.
        rows: u64,
        /// Width of a row.
        width: u32,
    }
}

hsaco::kernel! {
    /// Arguments of `kernels/sample.hip`, which draws a token for each row. A block has exactly 1024 threads.
    pub struct SampleArgs: "sample" => [sample_f32], variable "SAMPLE_HSACO", max_block 1024 {
        /// `[rows, width]`.
        logits: KernelPointer,
        /// `[rows, 4]` u32: the low and the high word of the seed, then of the step, which goes on by 1.
        draws: KernelPointer,
        /// `[rows]` u32.
        tokens: KernelPointer,
        /// Rows.
        rows: u64,
        /// Width of a row, less than `2^24`.
        width: u32,
        /// The most candidates that are kept; at least 1.
        top_k: u32,
        /// The share of their probability that is kept, of `2^64`; `2^64 - 1` keeps all.
        share: u64,
        /// `2 / temperature`; positive and finite.
        scale: f32,
    }
}
