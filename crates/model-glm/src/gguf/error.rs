use thiserror::Error;

/// What can be wrong with a GGUF file.
///
/// Positions are bytes from the start of the file; tensors' offsets are from the start of its data.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file does not begin with `GGUF`.
    #[error("expected a file that begins with \"GGUF\", found {:?}", String::from_utf8_lossy(found))]
    Magic {
        /// Its first bytes, at most 4.
        found: Vec<u8>,
    },
    /// The file is written for big-endian machines.
    #[error("the file is big-endian; little-endian files can be read: convert it without --bigendian")]
    BigEndian,
    /// The file's version is not one that is read.
    #[error("expected GGUF version 2 or 3, found {found}")]
    Version {
        /// The version.
        found: u32,
    },
    /// The file ends where something should stand.
    #[error("the file ends within {what}: at byte {at} {needed} bytes are needed, and {left} are left")]
    Truncated {
        /// What should stand there.
        what: &'static str,
        /// Where.
        at: usize,
        /// Its bytes.
        needed: u64,
        /// The bytes to the end of the file.
        left: usize,
    },
    /// The header counts more keys than the file has room for.
    #[error("the header claims {claimed} keys, and the file has room for at most {most}")]
    KeyCount {
        /// The count in the header.
        claimed: u64,
        /// The most that could be.
        most: u64,
    },
    /// The header counts more tensors than the file has room for.
    #[error("the header claims {claimed} tensors, and the file has room for at most {most}")]
    TensorCount {
        /// The count in the header.
        claimed: u64,
        /// The most that could be.
        most: u64,
    },
    /// A key has no or too many bytes.
    #[error("key {index} is {length} bytes long; expected 1 to {most}")]
    KeyLength {
        /// The key's number, from 0.
        index: u64,
        /// Its length.
        length: u64,
        /// The most that it may be.
        most: u64,
    },
    /// A key is not UTF-8.
    #[error("key {index} is not UTF-8")]
    KeyNotUtf8 {
        /// The key's number, from 0.
        index: u64,
    },
    /// A key holds a NUL.
    #[error("key {key:?} holds a NUL character")]
    KeyHasNul {
        /// The key.
        key: String,
    },
    /// A key stands twice.
    #[error("key {key:?} stands twice; which value counts must not depend on the reader")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value or an array's elements are of no type that GGUF has.
    #[error("{key}: expected a value type from 0 to 12, found {found}")]
    ValueType {
        /// The key.
        key: String,
        /// The type's number.
        found: u32,
    },
    /// A bool is neither 0 nor 1.
    #[error("{key}: expected a bool of 0 or 1, found {found}")]
    Bool {
        /// The key.
        key: String,
        /// The byte.
        found: u8,
    },
    /// A text is longer than what is left of the file.
    #[error("{key}: a text of {length} bytes is claimed where {left} are left")]
    StringLength {
        /// The key.
        key: String,
        /// The claimed length.
        length: u64,
        /// The bytes to the end of the file.
        left: usize,
    },
    /// A text is not UTF-8.
    #[error("{key}: a text is not UTF-8")]
    StringNotUtf8 {
        /// The key.
        key: String,
    },
    /// An array has more elements than what is left of the file has room for.
    #[error("{key}: an array of {count} elements is claimed where {left} bytes are left")]
    ArrayLength {
        /// The key.
        key: String,
        /// The claimed elements.
        count: u64,
        /// The bytes to the end of the file.
        left: usize,
    },
    /// Arrays are nested too deeply.
    #[error("{key}: arrays are nested deeper than {most}")]
    ArrayDepth {
        /// The key.
        key: String,
        /// The most levels.
        most: usize,
    },
    /// `general.alignment` is not a u32.
    #[error("general.alignment: expected a u32, found {found}")]
    AlignmentType {
        /// The type that it has.
        found: &'static str,
    },
    /// `general.alignment` is none.
    #[error("general.alignment: expected a power of two from 1 to {most}, found {found}")]
    Alignment {
        /// The alignment.
        found: u32,
        /// The most that it may be.
        most: u32,
    },
    /// A tensor's name has no or too many bytes.
    #[error("the name of tensor {index} is {length} bytes long; expected 1 to {most}")]
    TensorNameLength {
        /// The tensor's number, from 0.
        index: u64,
        /// The length.
        length: u64,
        /// The most that it may be.
        most: u64,
    },
    /// A tensor's name is not UTF-8.
    #[error("the name of tensor {index} is not UTF-8")]
    TensorNameNotUtf8 {
        /// The tensor's number, from 0.
        index: u64,
    },
    /// Two tensors have one name.
    #[error("tensor {tensor:?} stands twice")]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// A tensor has no or too many dimensions.
    #[error("tensor {tensor:?} has {found} dimensions; expected 1 to 4")]
    Rank {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        found: u32,
    },
    /// A dimension is negative as ggml reads it.
    #[error("tensor {tensor:?}: dimension {axis} is {found}, beyond 2^63 - 1")]
    Dimension {
        /// The tensor.
        tensor: String,
        /// The dimension's number, innermost first.
        axis: usize,
        /// Its size.
        found: u64,
    },
    /// A tensor's elements cannot be counted.
    #[error("tensor {tensor:?}: the elements of shape {dims:?} are more than 2^63 - 1")]
    ElementCount {
        /// The tensor.
        tensor: String,
        /// The dimensions, innermost first.
        dims: Vec<u64>,
    },
    /// A tensor's bytes cannot be counted.
    #[error("tensor {tensor:?}: {elements} elements of {dtype} are more bytes than can be counted")]
    ByteCount {
        /// The tensor.
        tensor: String,
        /// Its elements.
        elements: u64,
        /// Its type.
        dtype: &'static str,
    },
    /// A tensor's bytes cannot be padded to the alignment.
    #[error("tensor {tensor:?}: {bytes} bytes cannot be padded to {alignment}")]
    Padding {
        /// The tensor.
        tensor: String,
        /// Its bytes.
        bytes: u64,
        /// The file's alignment.
        alignment: u32,
    },
    /// The bytes of all tensors together cannot be counted.
    #[error("the tensors up to {tensor:?} are more bytes than can be counted")]
    TotalBytes {
        /// The tensor that was one too many.
        tensor: String,
    },
    /// A tensor's type has a number that ggml does not give.
    #[error("tensor {tensor:?} has type {found}, which ggml does not know")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The number.
        found: u32,
    },
    /// A tensor's rows are not whole blocks.
    #[error("tensor {tensor:?}: rows of {row} elements are not whole blocks of {dtype}, which have {block}")]
    PartialBlock {
        /// The tensor.
        tensor: String,
        /// Elements of a row.
        row: u64,
        /// The type.
        dtype: &'static str,
        /// Elements of a block.
        block: u64,
    },
    /// A tensor begins at a byte that the alignment does not allow.
    #[error("tensor {tensor:?} begins at {offset}, which is no multiple of {alignment}")]
    OffsetMisaligned {
        /// The tensor.
        tensor: String,
        /// Its offset.
        offset: u64,
        /// The file's alignment.
        alignment: u32,
    },
    /// A tensor's end cannot be counted.
    #[error("tensor {tensor:?}: {bytes} bytes from {offset} end beyond what can be counted")]
    OffsetOverflow {
        /// The tensor.
        tensor: String,
        /// Its offset.
        offset: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// A tensor ends beyond the end of the file.
    #[error("tensor {tensor:?} ends at byte {end} of a file of {file} bytes; download it again")]
    BeyondFile {
        /// The tensor.
        tensor: String,
        /// Where it ends in the file.
        end: u64,
        /// The file's size.
        file: usize,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} share bytes")]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The one that begins before the first ends.
        second: String,
    },
    /// The file is one of several that belong together.
    #[error("the file is a part of {parts}; join them with llama-gguf-split --merge")]
    Split {
        /// The parts.
        parts: u64,
    },
    /// A token of the vocabulary has no or too many bytes.
    #[error("token {id} of the vocabulary is {length} bytes long; expected 1 to {most}")]
    TokenLength {
        /// The token's id.
        id: usize,
        /// Its length.
        length: usize,
        /// The most that it may be.
        most: usize,
    },
    /// Two tokens of the vocabulary are one text.
    #[error("tokens {first} and {second} of the vocabulary are both {text:?}")]
    DuplicateToken {
        /// An id.
        first: usize,
        /// Another one.
        second: usize,
        /// The text of both.
        text: String,
    },
    /// A token of text stands behind a control token.
    #[error("token {id} ({text:?}) is of type {kind} and stands behind a control token; expected none there")]
    TokenOrder {
        /// Its id.
        id: usize,
        /// Its text.
        text: String,
        /// Its type's number in `tokenizer.ggml.token_type`.
        kind: i64,
    },
    /// A byte cannot be written in the vocabulary's tokens.
    #[error("the vocabulary has no token for the byte {byte:#04x}")]
    ByteToken {
        /// The byte.
        byte: u8,
    },
    /// A merge is not two tokens with a space between.
    #[error("merge {index} is {text:?}; expected two tokens with a space between")]
    Merge {
        /// Its number, from 0.
        index: usize,
        /// Its text.
        text: String,
    },
    /// A merge names a token that the vocabulary lacks.
    #[error("merge {index} needs the token {token:?}, which the vocabulary lacks")]
    MergeToken {
        /// Its number, from 0.
        index: usize,
        /// The token.
        token: String,
    },
    /// A special token's id is outside the vocabulary.
    #[error("{key} is {id}, and the vocabulary has {vocabulary} tokens")]
    SpecialId {
        /// The key.
        key: &'static str,
        /// The id.
        id: i64,
        /// The tokens.
        vocabulary: usize,
    },
    /// The tokenizer is of a kind that is not read.
    #[error(
        "tokenizer {model:?} with {pre:?} cannot be read; expected \"gpt2\" with \"glm4\" or \"chatglm-bpe\""
    )]
    Tokenizer {
        /// `tokenizer.ggml.model`.
        model: String,
        /// `tokenizer.ggml.pre`.
        pre: String,
    },
}
