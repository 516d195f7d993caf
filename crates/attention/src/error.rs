use device_mem::MemError;
use kernels_rope::RopeError;
use thiserror::Error;

/// What can go wrong with attention and its cache. Operands and the cache's length are then as they were.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// The head counts and the width do not describe an attention.
    #[error(
        "q_heads {q_heads}, kv_heads {kv_heads}, head_dim {head_dim}: none may be 0 and kv_heads must divide \
         q_heads; check the model's config"
    )]
    Shape {
        /// Query heads.
        q_heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of a head, in elements.
        head_dim: u32,
    },
    /// The cache would be larger than memory can be addressed.
    #[error(
        "a cache of {layers} layers x {capacity} tokens x {kv_heads} heads of {head_dim} is beyond any memory; \
         ask for a smaller capacity"
    )]
    CacheSize {
        /// Layers.
        layers: usize,
        /// Tokens.
        capacity: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of a head, in elements.
        head_dim: u32,
    },
    /// The tokens do not fit into the cache.
    #[error(
        "{tokens} tokens after the {len} in the cache exceed its capacity of {capacity}; \
         make a larger KvCache or truncate this one"
    )]
    Capacity {
        /// Tokens in the cache.
        len: u32,
        /// Tokens to add.
        tokens: u32,
        /// Tokens that the cache can hold.
        capacity: u32,
    },
    /// The cache has no such layer.
    #[error("layer {index} was asked of a cache of {layers} layers; make the cache for this model")]
    Layer {
        /// The layer asked for.
        index: usize,
        /// The cache's layers.
        layers: usize,
    },
    /// A layer has not appended what is to be committed.
    #[error(
        "{expected} tokens cannot be committed: layer {layer} has appended {found}; run the forward pass through \
         every layer first"
    )]
    Uncommitted {
        /// The layer.
        layer: usize,
        /// Tokens to commit.
        expected: u32,
        /// Tokens that the layer has appended since the last commit.
        found: u32,
    },
    /// The cache cannot be truncated to more tokens than it holds.
    #[error("a cache of {len} tokens cannot be truncated to {asked}; truncation only shortens")]
    Truncate {
        /// Tokens in the cache.
        len: u32,
        /// The length asked for.
        asked: u32,
    },
    /// An operand does not hold what its shape says.
    #[error(
        "{operand} [tokens {tokens}, heads {heads}, head_dim {head_dim}] does not match {found} elements"
    )]
    OperandLength {
        /// The operand's name.
        operand: &'static str,
        /// Tokens.
        tokens: u32,
        /// Heads.
        heads: u32,
        /// Width of a head, in elements.
        head_dim: u32,
        /// Elements that were found.
        found: usize,
    },
    /// An operand has not one element for each thing that it is of.
    #[error(
        "{operand} must have {expected} elements, but has {found}; check it against the cache and the table"
    )]
    Length {
        /// The operand's name.
        operand: &'static str,
        /// Elements that it must have.
        expected: usize,
        /// Elements that were found.
        found: usize,
    },
    /// Tokens of the prefix are not there.
    #[error(
        "a prefix of {prefix} tokens was asked of a pass that ends at token {end}; pass the whole prefix at once"
    )]
    Prefix {
        /// Tokens of the prefix.
        prefix: u32,
        /// Tokens of the cache and the pass.
        end: u32,
    },
    /// The step is not for the sequences of the cache.
    #[error("a step of {found} sequences was asked of a cache of {expected}; give every sequence one token")]
    Sequences {
        /// Sequences of the cache.
        expected: u32,
        /// Sequences of the step.
        found: u32,
    },
    /// The cache has no blocks to give.
    #[error("blocks were given to a sequence of a contiguous cache; make it with KvCache::paged")]
    NotPaged,
    /// A sequence would lose the blocks of its tokens.
    #[error(
        "sequence {sequence} has {len} tokens in its first {blocks} blocks, which must stay the first; truncate it before"
    )]
    BlocksInUse {
        /// The sequence.
        sequence: u32,
        /// Its tokens.
        len: u32,
        /// The blocks that they are in.
        blocks: usize,
    },
    /// The operands have another shape than the cache.
    #[error("the operands are {operands}, but the cache was made for {cache}; make the cache for this model")]
    ShapeMismatch {
        /// The operands' shape.
        operands: crate::AttentionShape,
        /// The cache's shape.
        cache: crate::AttentionShape,
    },
    /// Heads are wider than the kernels take.
    #[error("heads of {found} elements are wider than the {most} that run on a HIP device; use the CPU")]
    HeadDim {
        /// Width of a head, in elements.
        found: u32,
        /// The most that is taken.
        most: u32,
    },
    /// The rotation was refused or failed.
    #[error(transparent)]
    Rope(#[from] RopeError),
    /// Memory, transfer or launch failed.
    #[error(transparent)]
    Mem(#[from] MemError),
}
