//! The launches that are measured: those of GLM-4-9B, as the crates launch them.

#![expect(clippy::cast_possible_truncation, reason = "the shapes of one model, which are small")]

use attention::kernels::ATTENTION;
use hsaco::ImageSet;
use kernels_nn::kernels::{
    ADD, ADD_RMS_NORM, ARGMAX, EMBEDDING, LINEAR, LINEAR_TILED, NORM_LINEAR, RMS_NORM, SAMPLE, SWIGLU,
};
use kernels_rope::kernels::{APPEND_KV, POSITION_EMBEDDINGS, ROPE};

const HIDDEN: usize = 4096;
const Q_HEADS: u32 = 32;
const KV_HEADS: u32 = 2;
const HEAD_DIM: u32 = 128;
const ROTARY_DIM: u32 = 64;
const Q_WIDTH: usize = 4096;
const KV_WIDTH: usize = 256;
const INTERMEDIATE: usize = 13_696;
const VOCAB: usize = 151_552;
/// Tokens that are measured of a prompt.
const PROMPT: usize = 64;
/// Tokens in the cache that a decoded one attends over, itself among them.
const CONTEXT: u32 = 4096;
/// The part of the vocabulary that the last product is measured on, with as many turns for each block.
const VOCAB_PART: usize = 16;

/// Bytes of an element of activations, and of weights and the cache.
const F32: usize = 4;
const BF16: usize = 2;

/// A launch.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) images: &'static ImageSet,
    pub(super) symbol: &'static str,
    pub(super) blocks: [u32; 3],
    pub(super) threads: u32,
    pub(super) elements: u64,
    pub(super) budget: bool,
    pub(super) arguments: Vec<(&'static str, Argument)>,
}

/// An argument of a launch.
pub(super) enum Argument {
    /// A buffer, of which so much must be read and written once.
    Buffer { bytes: usize, content: Content, read: usize, written: usize },
    /// A number, as it lies in memory.
    Value(Vec<u8>),
}

impl Argument {
    pub(super) fn least_bytes(&self) -> u64 {
        match self {
            Argument::Buffer { read, written, .. } => (read + written) as u64,
            Argument::Value(_) => 0,
        }
    }
}

/// What a buffer holds.
#[derive(Clone, Copy)]
pub(super) enum Content {
    Zeros,
    /// f32 between -8 and 8.
    Logits,
}

impl Case {
    fn new(name: &str, images: &'static ImageSet, symbol: &'static str, blocks: [u32; 3]) -> Case {
        let name = name.to_owned();
        let threads = images.decl.max_block;
        Case { name, images, symbol, blocks, threads, elements: 0, budget: false, arguments: Vec::new() }
    }

    fn elements(mut self, elements: usize) -> Case {
        self.elements = elements as u64;
        self
    }

    /// It may move 1.05 of the least bytes.
    fn budget(mut self) -> Case {
        self.budget = true;
        self
    }

    fn buffer(mut self, name: &'static str, bytes: usize, read: usize, written: usize) -> Case {
        self.arguments.push((name, Argument::Buffer { bytes, content: Content::Zeros, read, written }));
        self
    }

    fn read(self, name: &'static str, bytes: usize) -> Case {
        self.buffer(name, bytes, bytes, 0)
    }

    fn written(self, name: &'static str, bytes: usize) -> Case {
        self.buffer(name, bytes, 0, bytes)
    }

    fn updated(self, name: &'static str, bytes: usize) -> Case {
        self.buffer(name, bytes, bytes, bytes)
    }

    fn logits(mut self, vocab: usize) -> Case {
        let bytes = vocab * F32;
        self.arguments
            .push(("logits", Argument::Buffer { bytes, content: Content::Logits, read: bytes, written: 0 }));
        self
    }

    fn u32(mut self, name: &'static str, value: u32) -> Case {
        self.arguments.push((name, Argument::Value(value.to_le_bytes().to_vec())));
        self
    }

    fn u64(mut self, name: &'static str, value: usize) -> Case {
        self.arguments.push((name, Argument::Value((value as u64).to_le_bytes().to_vec())));
        self
    }

    fn f32(mut self, name: &'static str, value: f32) -> Case {
        self.arguments.push((name, Argument::Value(value.to_le_bytes().to_vec())));
        self
    }

    fn f64(mut self, name: &'static str, value: f64) -> Case {
        self.arguments.push((name, Argument::Value(value.to_le_bytes().to_vec())));
        self
    }
}

/// Parts of fused launches: names, and how often each is launched.
type Parts = &'static [(&'static str, u64)];

/// Fused launches, which must not cost more than their parts.
pub(super) const FUSED: &[(&str, Parts)] = &[
    (
        "residual, norms and q, k, v, decode",
        &[("residual and norms, decode", 1), ("q, decode", 1), ("k or v, decode", 2)],
    ),
    (
        "residual, norms, gate_up and SwiGLU, decode",
        &[("residual and norms, decode", 1), ("gate_up, decode", 1), ("SwiGLU, decode", 1)],
    ),
    (
        "residual, norms and 1/16 of the logits, decode",
        &[("residual and norms, decode", 1), ("1/16 of the logits, decode", 1)],
    ),
    (
        "residual, norms and q, k, v, 2 tokens",
        &[("residual and norms, 2 tokens", 1), ("q, 2 tokens", 1), ("k or v, 2 tokens", 2)],
    ),
];

/// Every launch.
pub(super) fn all() -> Vec<Case> {
    let part = VOCAB / VOCAB_PART;
    vec![
        embedding(),
        norm(),
        residual_norm("residual and norms, decode", 1),
        residual_norm("residual and norms, 2 tokens", 2),
        fused(
            "residual, norms and q, k, v, decode",
            "norm_linear_bf16",
            1,
            &[Q_WIDTH, KV_WIDTH, KV_WIDTH],
            1,
        ),
        fused(
            "residual, norms and q, k, v, 2 tokens",
            "norm_linear_bf16",
            2,
            &[Q_WIDTH, KV_WIDTH, KV_WIDTH],
            1,
        ),
        linear("q, decode", 1, Q_WIDTH, HIDDEN),
        linear("k or v, decode", 1, KV_WIDTH, HIDDEN),
        linear("q, 2 tokens", 2, Q_WIDTH, HIDDEN),
        linear("k or v, 2 tokens", 2, KV_WIDTH, HIDDEN),
        rope(),
        position_embeddings(),
        append_kv(),
        attend_split(),
        attend(),
        linear("output of attention, decode", 1, HIDDEN, Q_WIDTH),
        fused("residual, norms, gate_up and SwiGLU, decode", "norm_swiglu_bf16", 1, &[INTERMEDIATE], 1),
        linear("gate_up, decode", 1, 2 * INTERMEDIATE, HIDDEN),
        swiglu(),
        linear("down, decode", 1, HIDDEN, INTERMEDIATE),
        add(),
        tiled(),
        // A part of the blocks takes the part of the vocabulary.
        fused("residual, norms and 1/16 of the logits, decode", "norm_linear_bf16", 1, &[part], VOCAB_PART),
        linear("1/16 of the logits, decode", 1, part, HIDDEN),
        Case::new("greedy choice", &ARGMAX, "argmax_f32", [1, 1, 1])
            .logits(VOCAB)
            .written("tokens", 4)
            .u64("rows", 1)
            .u32("width", VOCAB as u32)
            .elements(VOCAB),
        Case::new("draw, top_k 50, top_p 0.8", &SAMPLE, "sample_f32", [1, 1, 1])
            .logits(VOCAB)
            .updated("draws", 16)
            .written("tokens", 4)
            .u64("rows", 1)
            .u32("width", VOCAB as u32)
            .u32("top_k", 50)
            .u64("share", 14_757_395_258_967_641_292)
            .f32("scale", 2.0)
            .elements(VOCAB),
    ]
}

fn embedding() -> Case {
    Case::new("embedding, decode", &EMBEDDING, "embed_bf16", [HIDDEN as u32 / 256, 1, 1])
        .read("table", HIDDEN * BF16)
        .read("ids", 4)
        .written("out", HIDDEN * F32)
        .u64("tokens", 1)
        .u64("vocab", 1)
        .u64("hidden", HIDDEN)
        .elements(HIDDEN)
}

fn norm() -> Case {
    Case::new("norm, decode", &RMS_NORM, "rms_norm_f32", [1, 1, 1])
        .read("x", HIDDEN * F32)
        .read("weight", HIDDEN * F32)
        .written("out", HIDDEN * F32)
        .u64("rows", 1)
        .u64("width", HIDDEN)
        .f64("inverse_width", 1.0 / HIDDEN as f64)
        .f32("eps", 1e-5)
        .elements(HIDDEN)
        .budget()
}

/// The sandwich norms of `glm4`.
fn residual_norm(name: &str, tokens: usize) -> Case {
    Case::new(name, &ADD_RMS_NORM, "add_rms_norm_f32", [tokens as u32, 1, 1])
        .updated("x", tokens * HIDDEN * F32)
        .read("branch", tokens * HIDDEN * F32)
        .read("branch_weight", HIDDEN * F32)
        .read("weight", HIDDEN * F32)
        .written("out", tokens * HIDDEN * F32)
        .u64("rows", tokens)
        .u64("width", HIDDEN)
        .f64("inverse_width", 1.0 / HIDDEN as f64)
        .f32("branch_eps", 1e-5)
        .f32("eps", 1e-5)
        .elements(tokens * HIDDEN)
        .budget()
}

/// `norm_swiglu` symbols have twice as many rows as columns. A `part` of the blocks is launched.
fn fused(name: &str, symbol: &'static str, tokens: usize, columns: &[usize], part: usize) -> Case {
    const NAMES: [[&str; 3]; 3] = [
        ["weight_1", "out_1", "out_features_1"],
        ["weight_2", "out_2", "out_features_2"],
        ["weight_3", "out_3", "out_features_3"],
    ];
    let rows_of_column = if symbol.starts_with("norm_swiglu") { 2 } else { 1 };
    let tiles: usize = columns.iter().map(|columns| columns.div_ceil(16 / rows_of_column)).sum();
    // At most 144 blocks, that take as many turns each.
    let blocks = tiles.div_ceil(tiles.div_ceil(144 / part)) as u32;
    let mut case = Case::new(name, &NORM_LINEAR, symbol, [tokens as u32, blocks, 1])
        .read("x", tokens * HIDDEN * F32)
        .read("branch", tokens * HIDDEN * F32)
        .read("branch_weight", HIDDEN * F32)
        .written("sum", tokens * HIDDEN * F32)
        .read("norm_weight", HIDDEN * F32)
        .u32("in_features", HIDDEN as u32)
        .f64("inverse_width", 1.0 / HIDDEN as f64)
        .f32("branch_eps", 1e-5)
        .f32("eps", 1e-5)
        .elements(tokens * HIDDEN * rows_of_column * columns.iter().sum::<usize>())
        .budget();
    for ([weight, out, out_features], &columns) in NAMES.into_iter().zip(columns) {
        case = case
            .read(weight, rows_of_column * columns * HIDDEN * BF16)
            .written(out, tokens * columns * F32)
            .u64(out_features, columns);
    }
    case
}

/// In 8 slices below 16384 rows, a block having 4 rows then, and 32 otherwise.
fn linear(name: &str, tokens: usize, out_features: usize, in_features: usize) -> Case {
    let symbol = if tokens == 1 { "linear_bf16_1" } else { "linear_bf16_4" };
    // The part of the vocabulary stands for all of it.
    let sliced = out_features < 1 << 14 && out_features != VOCAB / VOCAB_PART;
    let (slices, rows) = if sliced { (8, 4) } else { (1, 32) };
    Case::new(name, &LINEAR, symbol, [out_features.div_ceil(rows) as u32, 1, 1])
        .read("weight", out_features * in_features * BF16)
        .read("x", tokens * in_features * F32)
        .written("out", tokens * out_features * F32)
        .u64("tokens", tokens)
        .u64("in_features", in_features)
        .u64("out_features", out_features)
        .u32("slices", slices)
        .elements(tokens * out_features * in_features)
        .budget()
}

fn tiled() -> Case {
    Case::new("k or v, 64 tokens", &LINEAR_TILED, "linear_bf16_tiled", [KV_WIDTH.div_ceil(128) as u32, 1, 1])
        .read("weight", KV_WIDTH * HIDDEN * BF16)
        .read("x", PROMPT * HIDDEN * F32)
        .written("out", PROMPT * KV_WIDTH * F32)
        .u64("tokens", PROMPT)
        .u64("in_features", HIDDEN)
        .u64("out_features", KV_WIDTH)
        .elements(PROMPT * KV_WIDTH * HIDDEN)
}

fn swiglu() -> Case {
    Case::new("SwiGLU, decode", &SWIGLU, "swiglu_f32", [INTERMEDIATE.div_ceil(256) as u32, 1, 1])
        .read("gate_up", 2 * INTERMEDIATE * F32)
        .written("out", INTERMEDIATE * F32)
        .u64("tokens", 1)
        .u64("ff", INTERMEDIATE)
        .elements(INTERMEDIATE)
        .budget()
}

fn add() -> Case {
    Case::new("residual, decode", &ADD, "add_f32", [HIDDEN as u32 / 256, 1, 1])
        .updated("x", HIDDEN * F32)
        .read("y", HIDDEN * F32)
        .u64("len", HIDDEN)
        .elements(HIDDEN)
}

/// Bytes of the rotated parts of heads.
fn rotated(heads: u32) -> usize {
    (heads * ROTARY_DIM) as usize * F32
}

/// The tables for one position.
fn tables(case: Case) -> Case {
    let row = ROTARY_DIM as usize / 2 * F32;
    case.read("cos", row).read("sin", row).read("positions", 4).read("pair_axis", row)
}

fn rope() -> Case {
    let case = Case::new("rotation of queries, decode", &ROPE, "rope_f32", [1, 1, 1]);
    let part = rotated(Q_HEADS);
    tables(case.buffer("x", Q_WIDTH * F32, part, part))
        .u64("token_stride", Q_WIDTH)
        .u64("head_stride", HEAD_DIM as usize)
        .u32("tokens", 1)
        .u32("heads", Q_HEADS)
        .u32("rotary_dim", ROTARY_DIM)
        .u32("pair_span", 1)
        .elements(part / F32)
        .budget()
}

fn position_embeddings() -> Case {
    let symbol = "position_embeddings_f32_bf16";
    let case = Case::new("rotation and append, decode", &POSITION_EMBEDDINGS, symbol, [1, 1, 1]);
    let (q, k, row) = (rotated(Q_HEADS), rotated(KV_HEADS), KV_WIDTH * BF16);
    let cache = CONTEXT as usize * row;
    // A key goes to the cache whole; its rotated part is read as that of the queries is, and written back.
    tables(case.buffer("q", Q_WIDTH * F32, q, q).buffer("k", KV_WIDTH * F32, KV_WIDTH * F32, k))
        .read("v", KV_WIDTH * F32)
        .buffer("keys", cache, 0, row)
        .buffer("values", cache, 0, row)
        .u64("q_token_stride", Q_WIDTH)
        .u64("q_head_stride", HEAD_DIM as usize)
        .u64("k_token_stride", KV_WIDTH)
        .u64("k_head_stride", HEAD_DIM as usize)
        .u64("cache_head_stride", (CONTEXT * HEAD_DIM) as usize)
        .u32("cache_row_len", HEAD_DIM)
        .u32("first_row", CONTEXT - 1)
        .u32("tokens", 1)
        .u32("q_heads", Q_HEADS)
        .u32("kv_heads", KV_HEADS)
        .u32("head_dim", HEAD_DIM)
        .u32("rotary_dim", ROTARY_DIM)
        .u32("pair_span", 1)
        .elements(Q_WIDTH + 2 * KV_WIDTH)
        .budget()
}

fn append_kv() -> Case {
    let row = KV_WIDTH * BF16;
    let cache = CONTEXT as usize * row;
    Case::new("append, decode", &APPEND_KV, "append_kv_bf16", [1, 1, 1])
        .read("k", KV_WIDTH * F32)
        .read("v", KV_WIDTH * F32)
        .buffer("keys", cache, 0, row)
        .buffer("values", cache, 0, row)
        .u64("cache_head_stride", (CONTEXT * HEAD_DIM) as usize)
        .u32("cache_row_len", HEAD_DIM)
        .u32("first_row", CONTEXT - 1)
        .u32("tokens", 1)
        .u32("kv_heads", KV_HEADS)
        .u32("head_dim", HEAD_DIM)
        .elements(2 * KV_WIDTH)
}

/// `attend` or `attend_split`, over a cache that ends with the launch's tokens.
fn attention(name: &str, symbol: &'static str, blocks: u32, tokens: u32, context: u32, chunks: u32) -> Case {
    let width = tokens as usize * Q_WIDTH * F32;
    let cache = context as usize * KV_WIDTH * BF16;
    Case::new(name, &ATTENTION, symbol, [blocks, 1, 1])
        .read("q", width)
        .read("keys", cache)
        .read("values", cache)
        .written("out", width)
        .u64("cache_head_stride", (context * HEAD_DIM) as usize)
        .u32("cache_row_len", HEAD_DIM)
        .f32("scale", 0.088_388_35)
        .u32("tokens", tokens)
        .u32("kv_heads", KV_HEADS)
        .u32("group", Q_HEADS / KV_HEADS)
        .u32("head_dim", HEAD_DIM)
        .u32("len", context - tokens)
        .u32("chunks", chunks)
        .elements(tokens as usize * context as usize * Q_WIDTH)
}

/// A block for each chunk of 256 keys of each key head, whose 16 queries are one tile.
fn attend_split() -> Case {
    let chunks = CONTEXT.div_ceil(256);
    let partials = (KV_HEADS * chunks * 16 * (2 + HEAD_DIM)) as usize * F32;
    attention("attention over 4096, decode", "attend_split_bf16", KV_HEADS * chunks, 1, CONTEXT, chunks)
        .buffer("partials", partials, 0, 0)
        .buffer("counters", KV_HEADS as usize * 4, 0, 0)
        .budget()
}

/// A block for each 16 rows of each key head.
fn attend() -> Case {
    let tokens = PROMPT as u32;
    let blocks = KV_HEADS * (tokens * Q_HEADS / KV_HEADS).div_ceil(16);
    attention("attention, 64 tokens", "attend_bf16", blocks, tokens, tokens, 0)
}
