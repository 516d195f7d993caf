//! Tokens, their types and the special ones among them.

use super::{Array, Gguf, GgufError, METADATA, Value, ValueType};
use crate::{GlmError, TokenId};

/// The vocabulary of a file; empty where there is none.
pub(crate) struct Vocabulary<'a> {
    tokens: Option<Array<'a>>,
    types: Option<Array<'a>>,
}

/// What a token is, as llama.cpp counts the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A part of text.
    Text,
    /// Never written in text: `<|user|>`.
    Control,
    /// Found in text as a whole: `<think>`.
    UserDefined,
    /// Stands for nothing.
    Unused,
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
/// Tokens that end an answer by their keys.
const ENDS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
const OTHERS: [&str; 6] = [
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.cls_token_id",
    "tokenizer.ggml.mask_token_id",
];
/// Tokens that end an answer by their texts. GLM-4 ends with any of the three, and files name two of them at most.
const END_TEXTS: [&str; 3] = ["<|endoftext|>", "<|user|>", "<|observation|>"];

impl<'a> Vocabulary<'a> {
    pub(crate) fn read(gguf: &Gguf<'a>) -> Result<Vocabulary<'a>, GlmError> {
        let tokens = array(gguf, TOKENS, &[ValueType::Str], "an array of strings")?;
        let types = array(gguf, TYPES, &[ValueType::I32, ValueType::U32], "an array of i32")?;
        let scores = array(gguf, SCORES, &[ValueType::F32], "an array of f32")?;
        let len = tokens.map_or(0, |tokens| tokens.len());
        for (key, of_each) in [(TYPES, types), (SCORES, scores)] {
            if let Some(of_each) = of_each.filter(|of_each| of_each.len() != len) {
                let found = format!("{} for {len} tokens", of_each.len());
                return Err(bad(key, "one value for each token", found));
            }
        }
        Ok(Vocabulary { tokens, types })
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.map_or(0, |tokens| tokens.len())
    }

    /// Texts and kinds by id.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&'a str, i64)> + use<'a> {
        const NORMAL: i64 = 1;
        let mut types = self.types.map(|types| types.iter());
        let number = |value: Value<'a>| value.as_i128().and_then(|number| i64::try_from(number).ok());
        let texts = self.tokens.map(|tokens| tokens.iter());
        texts.into_iter().flatten().filter_map(|value| value.as_str()).map(move |text| {
            let kind = types.as_mut().and_then(|types| types.next()).and_then(number);
            (text, kind.unwrap_or(NORMAL))
        })
    }

    /// Whether each token says what it is.
    pub(crate) fn has_types(&self) -> bool {
        self.types.is_some()
    }

    /// The tokens that end an answer, sorted.
    pub(crate) fn stop_ids(&self, gguf: &Gguf<'_>) -> Result<Vec<TokenId>, GlmError> {
        for key in OTHERS {
            self.special_id(gguf, key)?;
        }
        let named = ENDS.iter().filter_map(|key| self.special_id(gguf, key).transpose());
        let mut ids = named.collect::<Result<Vec<_>, _>>()?;
        let ends = self.tokens().enumerate().filter(|(_, (text, kind))| {
            END_TEXTS.contains(text) && (!self.has_types() || Kind::of(*kind) != Some(Kind::Text))
        });
        ids.extend(ends.filter_map(|(id, _)| TokenId::try_from(id).ok()));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// The id that a key names.
    fn special_id(&self, gguf: &Gguf<'_>, key: &'static str) -> Result<Option<TokenId>, GlmError> {
        let Some(value) = gguf.get(key) else { return Ok(None) };
        let Some(id) = value.as_i128().and_then(|id| i64::try_from(id).ok()) else {
            return Err(bad(key, "the id of a token", value.value_type().name().to_owned()));
        };
        let known = TokenId::try_from(id).ok().filter(|&id| (id as usize) < self.len());
        let vocabulary = self.len();
        Ok(Some(known.ok_or(GgufError::SpecialId { key, id, vocabulary })?))
    }
}

impl Kind {
    /// The kind of a number in `tokenizer.ggml.token_type`: normal, unknown and byte tokens are text.
    pub(crate) fn of(number: i64) -> Option<Kind> {
        match number {
            1 | 2 | 6 => Some(Kind::Text),
            3 => Some(Kind::Control),
            4 => Some(Kind::UserDefined),
            5 => Some(Kind::Unused),
            _ => None,
        }
    }
}

/// The array of a key whose elements are of one of the types.
fn array<'a>(
    gguf: &Gguf<'a>,
    key: &'static str,
    types: &[ValueType],
    expected: &'static str,
) -> Result<Option<Array<'a>>, GlmError> {
    let Some(value) = gguf.get(key) else { return Ok(None) };
    let Some(array) = value.as_array() else {
        return Err(bad(key, expected, value.value_type().name().to_owned()));
    };
    match types.contains(&array.element_type()) {
        true => Ok(Some(array)),
        false => Err(bad(key, expected, format!("an array of {}", array.element_type().name()))),
    }
}

pub(crate) fn bad(key: &str, expected: &'static str, found: String) -> GlmError {
    GlmError::BadKey { file: METADATA, key: key.to_owned(), expected, found }
}
