use device_mem::{DType, MemError};
use thiserror::Error;

use crate::BlockType;

/// What can go wrong with a layer operation. Inputs and outputs are then as they were.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NnError {
    /// A dimension is zero.
    #[error("{dimension} must be at least 1, but is 0; check the model's config")]
    ZeroDimension {
        /// The dimension's name.
        dimension: &'static str,
    },
    /// A matrix does not hold what its shape says.
    #[error(
        "{matrix} [{rows}, {columns}] does not match {found} elements; check the config against the checkpoint"
    )]
    MatrixLength {
        /// The matrix's name.
        matrix: &'static str,
        /// Rows.
        rows: usize,
        /// Elements of a row.
        columns: usize,
        /// Elements that were found.
        found: usize,
    },
    /// A vector of parameters has the wrong length.
    #[error(
        "{vector} must hold {expected} elements but holds {found}; check the config against the checkpoint"
    )]
    VectorLength {
        /// The vector's name.
        vector: &'static str,
        /// Elements that were expected.
        expected: usize,
        /// Elements that were found.
        found: usize,
    },
    /// An operand does not hold whole rows, one per token.
    #[error("{operand} must hold rows of {width} elements, but its {found} are no multiple of that")]
    Ragged {
        /// The operand's name.
        operand: &'static str,
        /// Elements of one row.
        width: usize,
        /// Elements that were found.
        found: usize,
    },
    /// An operand's length does not follow from the other's.
    #[error("{operand} must be [{tokens}, {width}] to go with the other operand, but holds {found} elements")]
    OperandLength {
        /// The operand's name.
        operand: &'static str,
        /// Rows that were expected.
        tokens: usize,
        /// Elements of one row.
        width: usize,
        /// Elements that were found.
        found: usize,
    },
    /// A token id lies outside the vocabulary.
    #[error(
        "token id {id} at index {index} is outside the vocabulary of {vocab}; use this model's tokenizer"
    )]
    TokenId {
        /// The id.
        id: u32,
        /// Its index among the ids.
        index: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The norm's epsilon cannot be used.
    #[error("eps must be finite and at least 0, but is {found}; take rms_norm_eps from the model's config")]
    Eps {
        /// The value that was found.
        found: f32,
    },
    /// A weight cannot be of this type.
    #[error("a weight must be f32, f16 or bf16, but is {found}; convert the checkpoint")]
    WeightDType {
        /// The type that was found.
        found: DType,
    },
    /// A layer does not give a row that is gated for each gate.
    #[error(
        "gate_up must map to as many gates as rows that they gate, but has {out_features} rows; check intermediate_size"
    )]
    GateUp {
        /// Rows of the weight.
        out_features: usize,
    },
    /// More tokens than an operation for few of them takes.
    #[error("{tokens} tokens are more than the {most} of an operation for few; call rms_norm and linear")]
    TooManyTokens {
        /// Tokens that were given.
        tokens: usize,
        /// The most that can be used.
        most: usize,
    },
    /// Rows are wider than an operation's kernel counts.
    #[error(
        "rows of {width} elements are wider than the {most} that fused operations and blocks take; call rms_norm and linear with floats"
    )]
    RowTooWide {
        /// Elements of a row.
        width: usize,
        /// The most that can be used.
        most: usize,
    },
    /// The sampling temperature cannot be used.
    #[error("temperature must be finite and at least 0 (0 is greedy), but is {found}")]
    Temperature {
        /// The value that was found.
        found: f32,
    },
    /// The nucleus cannot be used.
    #[error("top_p must be above 0 and at most 1 (1 keeps all tokens), but is {found}")]
    TopP {
        /// The value that was found.
        found: f32,
    },
    /// A logit is NaN or positive infinity, so that no distribution follows.
    #[error("the logit of token {id} is {found}; the weights or an operation before are damaged")]
    Logit {
        /// The token.
        id: usize,
        /// The value that was found.
        found: f32,
    },
    /// There is no token to choose: no logits, or all are negative infinity.
    #[error("none of the {vocab} logits is above -inf, so there is no token to choose")]
    NoCandidate {
        /// Logits that were given.
        vocab: usize,
    },
    /// More logits than a token can be chosen from.
    #[error("{vocab} logits are too many to choose a token from; {most} are the most")]
    VocabTooLarge {
        /// Logits that were given.
        vocab: usize,
        /// The most that can be used.
        most: usize,
    },
    /// Blocks are not whole, or do not go with the elements.
    #[error(
        "{bytes} bytes do not hold {elements} elements of {block}: {} elements take {} bytes",
        block.block_len(),
        block.block_bytes()
    )]
    BlockLength {
        /// The format.
        block: BlockType,
        /// Bytes of the blocks.
        bytes: usize,
        /// Elements that they should hold.
        elements: usize,
    },
    /// A row of a matrix is not whole blocks.
    #[error(
        "a row of {columns} elements is not whole blocks of {block}, which have {}; quantise the matrix to another format",
        block.block_len()
    )]
    RowOfBlocks {
        /// The format.
        block: BlockType,
        /// Elements of a row.
        columns: usize,
    },
    /// Bytes of a file are not whole blocks.
    #[error("{found} bytes are not whole blocks of {block}, which take {} each", block.block_bytes())]
    NoWholeBlocks {
        /// The format.
        block: BlockType,
        /// Bytes that were found.
        found: usize,
    },
    /// An element that cannot be rounded to levels.
    #[error("element {index} is {found}; only finite numbers can be quantised")]
    NotFinite {
        /// Its index.
        index: usize,
        /// The element.
        found: f32,
    },
    /// A block format has another name.
    #[error(
        "{found:?} is no block format that is read; those are Q8_0, Q4_0, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K"
    )]
    BlockName {
        /// The name that was found.
        found: String,
    },
    /// Memory, transfer or launch failed.
    #[error(transparent)]
    Mem(#[from] MemError),
}
