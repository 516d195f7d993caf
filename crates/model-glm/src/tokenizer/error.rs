use thiserror::Error;

/// What is wrong with a tokenizer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The text is longer than a vocabulary can be.
    #[error("tokenizer.json has {bytes} bytes, more than the {most} that are read")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The most that is read.
        most: u64,
    },
    /// The text is no JSON of the form that it should have.
    #[error("tokenizer.json cannot be read")]
    Json(#[source] serde_json::Error),
    /// A part is of another kind than GLM's tokenizers have.
    #[error("its {part} is {found}; expected {expected}")]
    Part {
        /// `normalizer`, `pre_tokenizer`, ...
        part: &'static str,
        /// Its kind, or what it says.
        found: String,
        /// What runs.
        expected: &'static str,
    },
    /// Text is split by a pattern that a text could make slow.
    #[error(
        "it splits text by the pattern {pattern:?}, which looks around or back: matching could take time without end"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A token has an id that no token can have.
    #[error("token {token:?} has the id {id}; ids are whole numbers from 0 on")]
    TokenId {
        /// The token.
        token: String,
        /// Its id.
        id: i64,
    },
    /// A token stands twice.
    #[error("token {token:?} stands twice")]
    SameToken {
        /// The token.
        token: String,
    },
    /// Two tokens have one id.
    #[error("tokens {first:?} and {second:?} have the same id {id}")]
    SameId {
        /// The id.
        id: u32,
        /// A token with it.
        first: String,
        /// Another one.
        second: String,
    },
    /// An added token has another id in the vocabulary.
    #[error("token {token:?} is added as {added}, but has the id {id} in the vocabulary")]
    AddedId {
        /// The token.
        token: String,
        /// Its id among the added tokens.
        added: u32,
        /// Its id in the vocabulary.
        id: u32,
    },
    /// No token has an id that is smaller than that of another.
    #[error("no token has the id {missing}, though {most} is in use")]
    IdGap {
        /// The least id without a token.
        missing: u32,
        /// The greatest id.
        most: u32,
    },
    /// A merge names a token that the vocabulary lacks.
    #[error("merge {index} names {token:?}, which is not in the vocabulary")]
    Merge {
        /// Counted from 0.
        index: usize,
        /// The token.
        token: String,
    },
    /// The library refuses the tokenizer or the text.
    #[error("{reason}")]
    Library {
        /// Its reason.
        reason: String,
    },
}
