use device_mem::{DType, MemError};
use thiserror::Error;

use crate::KvLayout;

/// What can go wrong with a rotary embedding. Inputs survive every error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RopeError {
    /// `rotary_dim` does not fit the head.
    #[error(
        "rotary_dim must be even, at least 2 and at most head_dim = {head_dim}, but is {rotary_dim}; \
         it is head_dim * partial_rotary_factor"
    )]
    RotaryDim {
        /// The rotated width that was asked for, in elements.
        rotary_dim: u32,
        /// The head's width, in elements.
        head_dim: u32,
    },
    /// Two blocks do not divide `rotary_dim` into whole pairs.
    #[error(
        "two rotary blocks need a rotary_dim that is a multiple of 4, but it is {rotary_dim}; use Axes::Single"
    )]
    TwoBlocks {
        /// The rotated width that was asked for, in elements.
        rotary_dim: u32,
    },
    /// The base of the frequencies is no positive number.
    #[error("theta must be finite and above 0, but is {theta}; take rope_theta from the model's config")]
    Theta {
        /// The base that was asked for.
        theta: f64,
    },
    /// A parameter of the scaling is outside its range.
    #[error("{kind} scaling needs {parameter} to be {expected}, but it is {found}; check rope_scaling")]
    Scaling {
        /// The kind of scaling, as configs write it.
        kind: &'static str,
        /// The parameter, as configs write it.
        parameter: &'static str,
        /// The range that it must lie in.
        expected: &'static str,
        /// The value that was found.
        found: f64,
    },
    /// A list of factors has the wrong length.
    #[error(
        "longrope scaling needs {expected} entries in {list}, one per frequency, but found {found}; \
         check rope_scaling and rotary_dim"
    )]
    FactorCount {
        /// `short_factor` or `long_factor`.
        list: &'static str,
        /// Frequencies.
        expected: usize,
        /// Entries.
        found: usize,
    },
    /// An entry of a list of factors is no positive number.
    #[error("{list}[{index}] must be finite and above 0, but is {found}; check rope_scaling")]
    Factor {
        /// `short_factor` or `long_factor`.
        list: &'static str,
        /// The entry's index.
        index: usize,
        /// The value that was found.
        found: f64,
    },
    /// The M-RoPE sections do not cover the pairs.
    #[error("the M-RoPE sections must add up to rotary_dim / 2 = {expected} pairs, but give {found}")]
    Sections {
        /// Pairs of the head.
        expected: u32,
        /// Sum of the sections.
        found: u64,
    },
    /// A frequency cannot be represented.
    #[error(
        "the frequency of pair {pair} comes out as {found}, which cannot be used; theta, the scaling or \
         the rounding of inv_freq does not suit rotary_dim"
    )]
    Frequency {
        /// The pair's index.
        pair: usize,
        /// The frequency, in radians per position.
        found: f64,
    },
    /// A table of no or of too many positions.
    #[error(
        "a table of {length} positions x {pairs} pairs cannot be built; ask for at least 1 position and at most what memory holds"
    )]
    TableSize {
        /// Positions that were asked for.
        length: u32,
        /// Pairs per position.
        pairs: usize,
    },
    /// A position lies beyond the table.
    #[error(
        "position {position} at index {index} of axis {axis} is beyond the table of {length} positions; \
         build the table with a length above {position}"
    )]
    Position {
        /// The position.
        position: u32,
        /// Its index within its axis.
        index: usize,
        /// The axis.
        axis: usize,
        /// Positions that the table serves.
        length: u32,
    },
    /// A span of positions ends beyond the table.
    #[error(
        "{count} positions from {first} on end beyond the table of {length} positions; \
         build the table with a greater length"
    )]
    Span {
        /// The first position.
        first: u32,
        /// How many positions.
        count: u32,
        /// Positions that the table serves.
        length: u32,
    },
    /// The wrong number of position axes.
    #[error(
        "this rotary embedding takes {expected} axes of positions, but got {found}; use Positions::with_axes"
    )]
    AxisCount {
        /// Axes of the spec.
        expected: usize,
        /// Axes that were given.
        found: usize,
    },
    /// An axis has another number of tokens than the first.
    #[error(
        "axis {axis} holds {found} positions, but axis 0 holds {expected}; give every axis one per token"
    )]
    AxisLength {
        /// The axis.
        axis: usize,
        /// Positions of axis 0.
        expected: usize,
        /// Positions of this axis.
        found: usize,
    },
    /// More positions than one call can take.
    #[error("{found} positions are more than one call takes ({}); split the batch", u32::MAX)]
    PositionCount {
        /// Positions that were given.
        found: usize,
    },
    /// The positions were checked against a longer table.
    #[error(
        "the positions reach {highest}, but this table serves {length}; make Positions with the table \
         that they are used with"
    )]
    OtherTable {
        /// The highest position.
        highest: u32,
        /// Positions that the table serves.
        length: u32,
    },
    /// An operand's heads are not as wide as the table's.
    #[error("{operand} has head_dim {found}, but the table was built for head_dim {expected}")]
    HeadDim {
        /// `x`, `q` or `k`.
        operand: &'static str,
        /// The spec's width, in elements.
        expected: u32,
        /// The operand's width, in elements.
        found: u32,
    },
    /// An operand has another number of tokens than there are positions.
    #[error("{operand} holds {found} tokens, but there are positions for {expected}; give one per token")]
    Tokens {
        /// `x`, `q` or `k`.
        operand: &'static str,
        /// Tokens that have a position.
        expected: u32,
        /// Tokens of the operand.
        found: u32,
    },
    /// Contiguous data does not hold what its shape says.
    #[error(
        "[tokens {tokens}, heads {heads}, head_dim {head_dim}] does not match {found} elements; check the shape"
    )]
    DataLength {
        /// Tokens.
        tokens: u32,
        /// Heads.
        heads: u32,
        /// Head width, in elements.
        head_dim: u32,
        /// Elements of the data.
        found: usize,
    },
    /// Strided rows may share elements.
    #[error(
        "rows of head_dim {head_dim} overlap with token_stride {token_stride} and head_stride {head_stride}: \
         one stride must be at least head_dim, the other must clear all rows along the first"
    )]
    RowsOverlap {
        /// Row width, in elements.
        head_dim: u32,
        /// Elements from one token to the next.
        token_stride: u64,
        /// Elements from one head to the next.
        head_stride: u64,
    },
    /// Strided rows leave the data.
    #[error("the layout's rows end at element {needed}, but the data holds {found}; check strides and shape")]
    RowsOutside {
        /// Elements that the layout spans; `u64::MAX` when even that many do not suffice.
        needed: u64,
        /// Elements of the data.
        found: usize,
    },
    /// A layer of a cache does not hold what its layout says.
    #[error(
        "{operand} of the cache hold {found} elements, which are not [blocks {blocks}, kv_heads {}, capacity {}, \
         row_len {}] with rows of at least head_dim {}; check the layout",
        layout.kv_heads, layout.capacity, layout.row_len, layout.head_dim
    )]
    CacheLength {
        /// `keys` or `values`.
        operand: &'static str,
        /// The layout of a block.
        layout: KvLayout,
        /// Blocks.
        blocks: u32,
        /// Elements that were found.
        found: usize,
    },
    /// The cache is for other heads than the keys have.
    #[error(
        "the keys have {kv_heads} heads of {head_dim}, but the cache was made for {} of {}",
        layout.kv_heads, layout.head_dim
    )]
    CacheHeads {
        /// The cache's layout.
        layout: KvLayout,
        /// Heads of the keys.
        kv_heads: u32,
        /// Their width, in elements.
        head_dim: u32,
    },
    /// The tokens end beyond the cache.
    #[error("{tokens} tokens from token {first} of the cache on exceed its capacity of {capacity}")]
    CacheFull {
        /// Where the first token goes.
        first: u32,
        /// Tokens to append.
        tokens: u32,
        /// Tokens that the cache has room for.
        capacity: u32,
    },
    /// The cache has no such sequence.
    #[error("sequence {sequence} was asked of a cache of {sequences} sequences; make the cache for more")]
    Sequence {
        /// The sequence.
        sequence: u32,
        /// Sequences of the cache.
        sequences: u32,
    },
    /// The lengths are not one for each token, or the tokens not one for each sequence.
    #[error(
        "a step of {sequences} sequences got {tokens} tokens and {found} lengths; give one of each for every sequence"
    )]
    Lengths {
        /// Sequences of the cache.
        sequences: u32,
        /// Tokens.
        tokens: u32,
        /// Lengths.
        found: usize,
    },
    /// Blocks of a size that no table can have, or of another than the table has.
    #[error(
        "blocks of {block_size} tokens do not suit a block table; take a power of two, the same for table and cache"
    )]
    BlockSize {
        /// Tokens of a block.
        block_size: u32,
    },
    /// A block table of more tokens or entries than can be counted.
    #[error(
        "a table for {sequences} sequences of {max_blocks} blocks of {block_size} tokens is beyond what can be counted; \
         allow a sequence fewer blocks"
    )]
    TableSpan {
        /// Sequences.
        sequences: u32,
        /// Blocks that a sequence may have.
        max_blocks: u32,
        /// Tokens of a block.
        block_size: u32,
    },
    /// More blocks than the table has entries for.
    #[error("a sequence was given {found} blocks, but may have {most}; make the table for more")]
    BlockCount {
        /// Blocks that were given.
        found: usize,
        /// The most that a sequence may have.
        most: u32,
    },
    /// The cache has no such block.
    #[error("block {block} at index {index} is not among the cache's {blocks}; blocks are counted from 0")]
    Block {
        /// The block.
        block: u32,
        /// Its index among those given.
        index: usize,
        /// Blocks of the cache.
        blocks: u32,
    },
    /// The block is in use.
    #[error("block {block} at index {index} is in use already; a block belongs to one place of one sequence")]
    BlockTaken {
        /// The block.
        block: u32,
        /// Its index among those given.
        index: usize,
    },
    /// There is no kernel for a data type.
    #[error("no kernel rotates {found}; use f32, f16 or bf16")]
    DType {
        /// The data type.
        found: DType,
    },
    /// There is no kernel that appends one data type to another.
    #[error(
        "no kernel appends {found} to a cache of {cache}; a cache narrower than its values needs f32 values"
    )]
    CacheDType {
        /// The data type of the activations.
        found: DType,
        /// The cache's data type.
        cache: DType,
    },
    /// Memory, transfer or launch failed.
    #[error(transparent)]
    Mem(#[from] MemError),
}
